package policy

import (
	"context"
	"fmt"

	"github.com/postrider/postrider/services/policy/lifecycle"
	"github.com/postrider/postrider/services/policy/names"
	"github.com/postrider/postrider/services/policy/notices"
	"github.com/postrider/postrider/services/policy/review"
	"github.com/postrider/postrider/services/policy/standing"
	"github.com/postrider/postrider/shared/authz"
	"github.com/postrider/postrider/shared/config"
	"github.com/postrider/postrider/shared/dnsx"
	"github.com/postrider/postrider/shared/registry/store"
	"github.com/postrider/postrider/shared/service"
)

// job is what policy does beside deciding: it keeps the slow facts of the registry
// fresh, in one process at a time, and answers what is asked of the directory.
type job interface {
	Run(ctx context.Context) error
}

// openJobs makes the jobs; stop releases what they share. A sandbox has the one
// that asks nobody outside.
func openJobs(env *service.Env, reg *store.Store) (jobs []job, stop func(), err error) {
	cfg := env.Config
	if cfg.Sandbox {
		return []job{notices.New(env, reg)}, func() {}, nil
	}
	resolver, err := dnsx.New(dnsx.Config{Servers: cfg.DNS.Servers()})
	if err != nil {
		return nil, nil, fmt.Errorf("open resolver: %w", err)
	}
	reviewer := &review.Reviewer{
		Bus: env.Bus, Registry: reg, DNS: resolver, Log: env.Log, Instance: env.Instance, Signer: cfg.DKIM.Domain,
		Include: cfg.Policy.SPFInclude, Enforce: cfg.Policy.SPF == config.Mode(authz.Enforce), Probe: cfg.Lifecycle.Probe, Port: uint16(cfg.Delivery.MXPort),
		SenderProof: authz.Mode(cfg.Policy.SenderProof),
	}
	if cfg.Policy.Directory != nil {
		directory, err := standing.Open(*cfg.Policy.Directory, env.Bus, env.Log, env.Metrics)
		if err != nil {
			resolver.Close()
			return nil, nil, err
		}
		reviewer.Directory = directory
		jobs = append(jobs, directory)
	}
	return append(jobs,
		notices.New(env, reg), lifecycle.New(env, reg),
		&names.Names{
			Bus: env.Bus, Registry: reg, DNS: resolver, Log: env.Log, Instance: env.Instance,
			Confirm: cfg.Rules().FCrDNS != authz.Off,
		},
		reviewer,
	), resolver.Close, nil
}
