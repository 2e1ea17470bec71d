package main

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/mirrormq/mirrormq/broker"
)

// configOf is the configuration that a serve command line means.
func configOf(t *testing.T, args ...string) (config broker.Config, err error) {
	t.Helper()
	app := newApp(nil, io.Discard, io.Discard)
	for _, c := range app.Commands {
		if c.Name == "serve" {
			c.Action = func(c *cli.Context) error {
				config, err = serveConfig(c)
				return err
			}
		}
	}
	if runErr := app.Run(permute(app, append([]string{"mirrormq", "serve"}, args...))); err == nil {
		err = runErr
	}
	return config, err
}

func writeConfig(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "mirrormq.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestServeDefaults(t *testing.T) {
	c, err := configOf(t)
	if err != nil {
		t.Fatal(err)
	}
	if c.Data != "mirrormq-data" || c.AMQP != "127.0.0.1:5672" || c.HTTP != "127.0.0.1:15672" || c.Fsync != "always" ||
		c.AckQuorum != "majority" || c.Groups != 0 || c.Copies != 0 || c.MaxMessageSize != 16<<20 || c.DiskFreeLimit != 512<<20 ||
		c.Heartbeat != time.Minute || c.FrameMax != 131072 || c.ChannelMax != 2047 || c.MemoryLimit <= 0 || c.Logger == nil {
		t.Fatalf("%+v", c)
	}
}

func TestCommandLineBeatsVariableBeatsFileBeatsDefault(t *testing.T) {
	path := writeConfig(t, "# a comment\nname: file\ndata: file\namqp: 127.0.0.1:1\nheartbeat: 5s\nmax-message-size: 1MiB\ngroups: 3\n")
	t.Setenv("MIRRORMQ_NAME", "variable")
	t.Setenv("MIRRORMQ_DATA", "variable")
	t.Setenv("MIRRORMQ_CONFIG", path)
	c, err := configOf(t, "--name", "line")
	if err != nil {
		t.Fatal(err)
	}
	if c.Name != "line" || c.Data != "variable" || c.AMQP != "127.0.0.1:1" || c.Heartbeat != 5*time.Second ||
		c.MaxMessageSize != 1<<20 || c.Groups != 3 || c.HTTP != "127.0.0.1:15672" {
		t.Fatalf("%+v", c)
	}
}

func TestEveryServeFlagHasAVariableAndAPlaceInTheFile(t *testing.T) {
	for _, f := range serveFlags() {
		name := f.Names()[0]
		want := "MIRRORMQ_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
		if env, ok := f.(cli.DocGenerationFlag); !ok || len(env.GetEnvVars()) != 1 || env.GetEnvVars()[0] != want {
			t.Errorf("--%s has no variable %s", name, want)
		}
	}
}

func TestConfigFilesAreCheckedWithLineNumbers(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"name: x\nmax-mesage-size: 1MiB\n", `mirrormq.yaml:2: unknown key "max-mesage-size"; did you mean "max-message-size"?`},
		{"\n\nzzzzzzzz: 1\n", `mirrormq.yaml:3: unknown key "zzzzzzzz"`},
		{"config: other.yaml\n", "unknown key"},
		{"name: x\nname: y\n", `:2: "name" is already set in line 1`},
		{"groups: x\n", ":1: groups"},
		{"heartbeat: 5\n", ":1: heartbeat"},
		{"tls-cert:\n  - a\n", ":2: tls-cert needs a single value"},
		{"tls-cert:\n", ":1: tls-cert needs a single value"},
		{"- a\n", ":1: expected lines of the form"},
		{"a: [\n", "mirrormq.yaml: yaml: line"},
		{"max-message-size: 1XB\n", "--max-message-size"},
		{"cluster: a=b\n", "is not NAME=HOST:PORT"},
	} {
		_, err := configOf(t, "--config", writeConfig(t, c.text))
		if err == nil || !strings.Contains(err.Error(), c.want) || classify(err).code != exitUsage {
			t.Errorf("%q: %v", c.text, err)
		}
	}
	for _, text := range []string{"", "# nothing\n", "---\n"} {
		if _, err := configOf(t, "--config", writeConfig(t, text)); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	}
	if _, err := configOf(t, "--config", filepath.Join(t.TempDir(), "missing")); classify(err).code != exitNotFound {
		t.Errorf("a missing file: %v", err)
	}
}

func TestServeRefusesWhatMakesNoSense(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"extra", "unexpected argument"},
		{"--cluster a=b", "is not NAME=HOST:PORT"},
		{"--cluster a=b:1,a=b:2", "is in it twice"},
		{"--join x", "--join: members can't be changed yet"},
		{"--copies 3", "copies 3: a broker alone has one"},
		{"--copies 0", "--copies 0: at least 1"},
		{"--fsync sometimes", "use always, interval, never"},
		{"--ack-quorum most", "use leader, majority, all"},
		{"--ack-quorum 0", "use leader"},
		{"--max-message-size 513MiB", "from 1 B to 512 MiB"},
		{"--max-message-size 0", "from 1 B"},
		{"--frame-max 4095", "from 4.0 KiB"},
		{"--heartbeat 0s", "must be above 0"},
		{"--groups 0", "at least 1"},
		{"--channel-max 0", "at least 1"},
		{"--log-level loud", "use debug"},
		{"--log-format xml", "use text, json"},
		{"--memory-high-watermark x", "write a share"},
		{"--memory-high-watermark 4", "write a share"},
		{"--amqp nonsense", `amqp address "nonsense"`},
		{"--amqps 127.0.0.1:0", "amqps needs a certificate and a key"},
		{"--name ä", "use letters, digits"},
		{"--data=", "--data is empty"},
		{"--http=", "--http is empty"},
	} {
		_, err := configOf(t, strings.Fields(c.args)...)
		if err == nil || !strings.Contains(err.Error(), c.want) || classify(err).code != exitUsage {
			t.Errorf("%s: %v", c.args, err)
		}
	}
}
