package backbone

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// externalServer is the nats-server of the module that we embed, built and run
// as a process of its own.
type externalServer struct {
	t       *testing.T
	binary  string
	address string
	process *exec.Cmd
}

func newExternalServer(t *testing.T) *externalServer {
	t.Helper()
	if testing.Short() {
		t.Skip("builds nats-server")
	}
	s := &externalServer{t: t, binary: filepath.Join(t.TempDir(), "nats-server"), address: freePorts(t, 1)[0]}
	build := exec.Command("go", "build", "-o", s.binary, "github.com/nats-io/nats-server/v2")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build nats-server: %v\n%s", err, out)
	}
	t.Cleanup(s.kill)
	return s
}

func (s *externalServer) start() {
	s.t.Helper()
	config := filepath.Join(s.t.TempDir(), "nats.conf")
	text := "listen: " + s.address + "\nauthorization { user: broker, password: secret }\nmax_payload: 262144\n"
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
	s.process = exec.Command(s.binary, "-c", config)
	if err := s.process.Start(); err != nil {
		s.t.Fatal(err)
	}
}

func (s *externalServer) kill() {
	if s.process != nil {
		s.process.Process.Kill()
		s.process.Wait()
		s.process = nil
	}
}

func TestAnExternalNATSCarriesTheSame(t *testing.T) {
	s := newExternalServer(t)
	c := newCluster(t, 3, func(c *Config) {
		c.NATS = "nats://broker:secret@" + s.address
		for name := range c.Peers {
			c.Peers[name] = ""
		}
	})
	// The brokers are there before their NATS.
	for name := range c.configs {
		c.start(name)
	}
	s.start()
	c.awaitMesh()
	b1, b2, b3 := c.live["b1"], c.live["b2"], c.live["b3"]
	large := make([]byte, 3<<20)
	large[len(large)-1] = 7
	if err := b1.b.SendLink(Replication, []string{"b2", "b3"}, large); err != nil {
		t.Fatal(err)
	}
	b2.awaitCount(t, "message", "b1", 1)
	b3.awaitCount(t, "message", "b1", 1)
	if h := b3.last("message", "b1"); len(h.payload) != len(large) || h.payload[len(large)-1] != 7 {
		t.Errorf("got %d bytes", len(h.payload))
	}

	// A broker that dies is known by nobody listening.
	killed := time.Now()
	c.stop("b3")
	b1.awaitCount(t, "down", "b3", 1)
	took := b1.last("down", "b3").at.Sub(killed)
	t.Logf("down after %v", took)
	if took > 600*time.Millisecond {
		t.Errorf("down only after %v", took)
	}
	b1.awaitCount(t, "broken", "b3", 1)

	// NATS itself dies and comes back.
	s.kill()
	b1.awaitCount(t, "down", "b2", 1)
	b1.awaitCount(t, "broken", "b2", 1)
	if err := b1.b.SendLink(Replication, []string{"b2"}, nil); !errors.Is(err, ErrDown) {
		t.Errorf("without NATS: %v", err)
	}
	s.start()
	b1.awaitCount(t, "up", "b2", 2)
	c.awaitMesh()
	if err := b1.b.SendLink(Replication, []string{"b2"}, []byte("again")); err != nil {
		t.Fatal(err)
	}
	b2.awaitCount(t, "message", "b1", 2)
}
