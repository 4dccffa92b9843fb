// Package compose tests the compose set on a Docker engine, end to end: the
// docker-compose.yml, Dockerfile and nats.conf of this tree, as they are.
//
//	make compose
//
// It needs Linux, Go, docker and docker-compose. When no engine answers it
// starts a dockerd of its own (root; Debian packages docker.io and
// docker-compose) and ends it again. What is missing fails the test; nothing is
// skipped.
//
// Nothing is pulled. An image of docker-compose.yml or of the Dockerfile that
// the engine does not have is made from this machine under the same name, and
// removed afterwards: the builder from the Go toolchain, the modules of the
// workspace, gcc and libcrypto.so.3 if gcc is installed, and a static busybox
// (Debian package busybox-static, installed by apt-get when missing), the bus
// from the nats-server of the workspace. To test with the official images, pull
// them before.
//
// The project has a name of its own; its containers, volumes, networks and
// images are removed at the end. Mail goes to 127.0.0.1:2525, or to another
// port of 127.0.0.1 when that one is taken, and from there to the sink in the
// network of the project.
package compose
