module github.com/postrider/postrider/services/delivery

go 1.26.0

require (
	github.com/nats-io/nats.go v1.55.0
	github.com/postrider/postrider/shared v0.0.0
	github.com/prometheus/client_golang v1.25.0
	github.com/rs/zerolog v1.35.1
	pgregory.net/rapid v1.3.0
)

replace github.com/postrider/postrider/shared => ../../shared
