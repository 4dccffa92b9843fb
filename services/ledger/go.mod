module github.com/postrider/postrider/services/ledger

go 1.26.0

require (
	github.com/nats-io/nats.go v1.55.0
	github.com/postrider/postrider/shared v0.0.0
	github.com/prometheus/client_golang v1.25.0
	github.com/rs/zerolog v1.35.1
	golang.org/x/sync v0.24.0
	modernc.org/sqlite v1.50.0
	pgregory.net/rapid v1.3.0
)

replace github.com/postrider/postrider/shared => ../../shared
