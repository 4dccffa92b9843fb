package porttest

import (
	"net"
	"strconv"
	"testing"
)

func TestAddresses(t *testing.T) {
	const n = 200 // of 20,000: a generator that held none would give some twice
	seen := map[string]bool{}
	for _, address := range Addresses(t, n) {
		_, text, err := net.SplitHostPort(address)
		if err != nil {
			t.Fatal(err)
		}
		if port, err := strconv.Atoi(text); err != nil || port < lowest || port >= highest {
			t.Errorf("port %s is outside [%d, %d)", text, lowest, highest)
		}
		if seen[address] {
			t.Errorf("%s was given twice", address)
		}
		seen[address] = true
		socket, err := net.Listen("tcp", address)
		if err != nil {
			t.Errorf("%s is not free: %v", address, err)
			continue
		}
		defer socket.Close()
	}
}

func TestTaken(t *testing.T) {
	port := Shared(t, "127.0.0.1", "127.0.0.2")
	held, err := net.Listen("tcp", net.JoinHostPort("127.0.0.2", strconv.Itoa(port)))
	if err != nil {
		t.Fatalf("the port shared is not free on the second address: %v", err)
	}
	defer held.Close()
	if _, taken := try(t, "127.0.0.2", port); !taken {
		t.Error("a port somebody listens on is called free")
	}
}
