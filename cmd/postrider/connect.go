package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/rs/zerolog"

	"github.com/postrider/postrider/shared/config"
	"github.com/postrider/postrider/shared/natsd"
	"github.com/postrider/postrider/shared/queue"
	"github.com/postrider/postrider/shared/service"
)

// connect reaches the bus of the relay that the configuration describes, for
// a command. An embedded bus left its address in relay.data.
func connect(ctx context.Context, f *flags) (*config.Config, *queue.Bus, error) {
	cfg, err := service.LoadConfig(f.config)
	if err != nil {
		return nil, nil, err
	}
	c := queue.Connection{URL: cfg.Bus.URL, Credentials: cfg.Bus.Credentials, System: cfg.Bus.SystemCredentials, Name: "postrider-command", Log: zerolog.Nop()}
	if c.URL == "" {
		access, err := natsd.ReadAccess(cfg.Relay.Data)
		if errors.Is(err, os.ErrNotExist) {
			return nil, nil, fmt.Errorf("%w: no relay runs on %s\nStart it with: postrider up", service.ErrUnreachable, cfg.Relay.Data)
		}
		if err != nil {
			return nil, nil, err
		}
		c.URL, c.Credentials = access.URL, access.Credentials
	}
	bus, err := queue.Connect(c)
	if err != nil && cfg.Bus.URL == "" {
		return nil, nil, fmt.Errorf("%w: %w\nThe relay on %s does not answer; it did not stop in order. Start it with: postrider up", service.ErrUnreachable, err, cfg.Relay.Data)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", service.ErrUnreachable, err)
	}
	if os.Getenv("SUDO_USER") != "" {
		if err := admit(ctx, cfg, bus, f.command); err != nil {
			bus.Close()
			return nil, nil, err
		}
	}
	return cfg, bus, nil
}
