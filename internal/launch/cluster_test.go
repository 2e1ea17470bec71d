package launch

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// odd is a fake whose member b2 goes another way than the others.
type odd struct {
	fake
	second string
	// noCluster is what formed answers; told are the members that it was asked of.
	noCluster error
	told      *[]Config
}

func (o odd) command(c Config) (*exec.Cmd, error) {
	if c.name == "b2" {
		o.how = o.second
	}
	return o.fake.command(c)
}

func (o odd) formed(_ context.Context, all []Config) error {
	*o.told = all
	return o.noCluster
}

func TestAClusterServesWithAllItsMembers(t *testing.T) {
	dir, told := t.TempDir(), []Config(nil)
	c, err := StartCluster(within(t, 30*time.Second), odd{fake{"serves", nil}, "serves", nil, &told}, Config{Dir: dir}, 3)
	if err != nil {
		t.Fatal(err)
	}
	urls := c.URLs()
	slices.Sort(urls)
	if len(slices.Compact(urls)) != 3 || len(c.PIDs()) != 3 {
		t.Errorf("%v", urls)
	}
	for i, config := range told {
		if config.secret != told[0].secret || config.epmdPort != told[0].epmdPort || len(config.members) != 3 ||
			config.members[i].peerPort != config.peerPort || config.name != config.members[i].name {
			t.Errorf("%+v", config)
		}
		if _, err := os.Stat(filepath.Join(dir, config.name, "output.log")); err != nil {
			t.Error(err)
		}
	}
	if err := c.Stop(within(t, 30*time.Second)); err != nil {
		t.Error(err)
	}
	for _, b := range c.Brokers {
		if !b.ended() {
			t.Errorf("%s runs", b.Config.name)
		}
	}
}

func TestAMemberThatEndsTakesTheOthersAlong(t *testing.T) {
	var cleaned atomic.Int32
	var told []Config
	_, err := StartCluster(within(t, 30*time.Second), odd{fake{"serves", &cleaned}, "ends", nil, &told}, Config{Dir: t.TempDir()}, 3)
	if err == nil || !strings.Contains(err.Error(), "no disk today") {
		t.Errorf("%v", err)
	}
	if cleaned.Load() < 3 {
		t.Errorf("%d of 3 cleaned up", cleaned.Load())
	}
}

func TestMembersThatFormNoClusterAreKilled(t *testing.T) {
	var cleaned atomic.Int32
	var told []Config
	split := errors.New("two of one mind, one of another")
	_, err := StartCluster(within(t, 30*time.Second), odd{fake{"serves", &cleaned}, "serves", split, &told}, Config{Dir: t.TempDir()}, 3)
	if !errors.Is(err, split) || cleaned.Load() < 3 {
		t.Errorf("%v, %d of 3 cleaned up", err, cleaned.Load())
	}
}
