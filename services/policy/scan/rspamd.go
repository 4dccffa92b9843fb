package scan

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/postrider/postrider/shared/authz"
	"github.com/postrider/postrider/shared/event"
)

// maxAnswer is how much a scanner may answer, in octets.
const maxAnswer = 1 << 20

// rspamd is asked over HTTP, at /checkv2 of its normal worker or its proxy.
type rspamd struct {
	url      string
	password string
	hostname string
	reject   authz.Outcome
	client   *http.Client
}

// newRspamd makes a client of the worker at a URL. A password may be in its query.
func newRspamd(at, hostname string, reject authz.Outcome) (*rspamd, error) {
	u, err := url.Parse(at)
	if err != nil {
		return nil, errors.New("read scan.rspamd: this is no URL")
	}
	r := &rspamd{password: u.Query().Get("password"), hostname: hostname, reject: reject}
	u.RawQuery = ""
	r.url = u.JoinPath("checkv2").String()
	r.client = &http.Client{
		Transport: &http.Transport{
			// A content is sent once: a connection that was closed meanwhile would
			// look like a scanner that is down.
			DisableKeepAlives: true, MaxResponseHeaderBytes: 64 << 10, DisableCompression: true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return r, nil
}

// ask sends the content, and reads the answer.
func (r *rspamd) ask(ctx context.Context, a *event.Accepted, content io.Reader) (Finding, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, r.url, io.NopCloser(content))
	if err != nil {
		return Finding{}, errors.New("scan.rspamd is no URL that can be asked")
	}
	request.ContentLength = a.Size
	r.describe(request.Header, a)
	response, err := r.client.Do(request)
	if err != nil {
		return Finding{}, bare(ctx, err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return Finding{}, fmt.Errorf("it answered %d", response.StatusCode)
	}
	data, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	if err != nil {
		return Finding{}, bare(ctx, err)
	}
	if len(data) > maxAnswer {
		return Finding{}, fmt.Errorf("its answer is longer than %d octets", maxAnswer)
	}
	var found result
	if err := json.Unmarshal(data, &found); err != nil {
		return Finding{}, errors.New("its answer is not the JSON of rspamd")
	}
	return found.finding(r.reject)
}

// bare is an error without the URL, which may have a password.
func bare(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// describe tells the scanner of the transaction. What a client said of itself is
// made fit for a header.
func (r *rspamd) describe(h http.Header, a *event.Accepted) {
	set := func(name, value string) {
		if value = shown(value, maxValue); value != "" {
			h[name] = []string{value}
		}
	}
	f := &a.Facts
	set("From", a.Env.ReversePath.String())
	for i := range a.Env.Recipients {
		h["Rcpt"] = append(h["Rcpt"], shown(a.Env.Recipients[i].Address.String(), maxValue))
	}
	if f.Address.IsValid() {
		set("Ip", f.Address.Unmap().WithZone("").String())
	}
	set("Helo", f.Helo)
	set("Hostname", f.Name)
	set("User", f.Identity)
	set("Queue-Id", string(a.QueueID))
	set("Mta-Name", r.hostname)
	set("Password", r.password)
}

// result is what we read of the answer.
type result struct {
	Action   string            `json:"action"`
	Score    float64           `json:"score"`
	Required float64           `json:"required_score"`
	Skipped  bool              `json:"is_skipped"`
	Symbols  map[string]symbol `json:"symbols"`
}

type symbol struct {
	Score float64 `json:"score"`
}

// finding is what the action means.
func (r *result) finding(reject authz.Outcome) (Finding, error) {
	f := Finding{Outcome: authz.Admit, Scanner: fmt.Sprintf("%s, %.2f of %.2f%s", r.Action, r.Score, r.Required, r.named(6))}
	switch r.Action {
	case "no action", "greylist":
	case "add header", "rewrite subject":
		f.Fields = field("X-Spam", "Yes") + field("X-Spam-Status", fmt.Sprintf("Yes, score=%.2f required=%.2f%s", r.Score, r.Required, r.named(12)))
	case "soft reject":
		f.Outcome = authz.Later
	case "reject":
		f.Outcome = reject
	case "quarantine", "discard":
		f.Outcome = authz.Hold
	default:
		return Finding{}, fmt.Errorf("its action %q is unknown", shown(r.Action, 40))
	}
	return f, nil
}

// named are the symbols that weigh most.
func (r *result) named(most int) string {
	var names []string
	for name, s := range r.Symbols {
		if s.Score > 0 && len(name) <= 64 {
			names = append(names, name)
		}
	}
	slices.SortFunc(names, func(a, b string) int {
		return cmp.Or(cmp.Compare(r.Symbols[b].Score, r.Symbols[a].Score), cmp.Compare(a, b))
	})
	if len(names) == 0 {
		return ""
	}
	return ": " + strings.Join(names[:min(most, len(names))], " ")
}
