package world

// The programs that tests build. Importing nats-server here pins its version
// in go.mod; the others are packages of this workspace.
import _ "github.com/nats-io/nats-server/v2/server"
