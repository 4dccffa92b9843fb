package natsd

import (
	"fmt"
	"strings"

	"github.com/rs/zerolog"
)

// logger passes the server's words on.
type logger struct {
	log zerolog.Logger
	// fatal has the first word of a server that cannot go on: it only says so.
	fatal chan string
	// failed has the first write error.
	failed chan<- string
}

func (l *logger) Noticef(f string, v ...any) { l.log.Debug().Msgf("bus: "+f, v...) }
func (l *logger) Warnf(f string, v ...any) {
	if strings.HasPrefix(f, "Plaintext passwords") {
		return // made for this run, known to bus.json (0600) only
	}
	l.log.Warn().Msgf("bus: "+f, v...)
}
func (l *logger) Fatalf(f string, v ...any) {
	l.log.Error().Msgf("bus: "+f, v...)
	select {
	case l.fatal <- fmt.Sprintf(f, v...):
	default:
	}
}
func (l *logger) Errorf(f string, v ...any) {
	text := fmt.Sprintf(f, v...)
	l.log.Error().Msg("bus: " + text)
	if strings.Contains(text, loggedWriteError) {
		select {
		case l.failed <- text:
		default:
		}
	}
}
func (l *logger) Debugf(f string, v ...any) { l.log.Trace().Msgf("bus: "+f, v...) }
func (l *logger) Tracef(f string, v ...any) { l.log.Trace().Msgf("bus: "+f, v...) }
