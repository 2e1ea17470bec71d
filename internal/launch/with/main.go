// Command with starts a broker in a temporary directory, runs a command
// against it and stops the broker again:
//
//	go run ./internal/launch/with -broker mirrormq -binary ./mirrormq -- internal/smoke/run
//
// The command sees AMQP_URL, HTTP_URL, BROKER (its name), BROKER_PID and
// BROKER_DATA. with's exit status is the command's; when that is not 0 it
// prints the end of the broker's output. Status 77 means that the broker's
// program is not installed.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"github.com/mirrormq/mirrormq/internal/launch"
)

// skipped is the exit status for "not installed", as automake has it.
const skipped = 77

func main() { os.Exit(run()) }

func run() int {
	var (
		broker = flag.String("broker", "mirrormq", "broker to start: mirrormq or rabbitmq")
		binary = flag.String("binary", "./mirrormq", "path of the mirrormq program")
		dir    = flag.String("dir", "", "directory for the broker's files (default: a temporary one, removed)")
		config launch.Config
	)
	flag.IntVar(&config.AMQPPort, "amqp-port", 0, "AMQP port on 127.0.0.1 (0: a free one)")
	flag.IntVar(&config.HTTPPort, "http-port", 0, "HTTP port on 127.0.0.1 (0: a free one)")
	flag.BoolVar(&config.HTTP, "http", false, "also start RabbitMQ's management plugin")
	flag.Parse()
	if flag.NArg() == 0 {
		fmt.Fprintln(os.Stderr, "with: no command given; see -help")
		return 2
	}
	programs := map[string]launch.Program{
		"mirrormq": launch.MirrorMQ{Binary: *binary},
		"rabbitmq": launch.RabbitMQ{},
	}
	program, ok := programs[*broker]
	if !ok {
		fmt.Fprintf(os.Stderr, "with: unknown broker %q: say mirrormq or rabbitmq\n", *broker)
		return 2
	}
	config.Dir = *dir
	if config.Dir == "" {
		temporary, err := os.MkdirTemp("", "mirrormq-with-")
		if err != nil {
			fmt.Fprintln(os.Stderr, "with:", err)
			return 1
		}
		defer os.RemoveAll(temporary)
		config.Dir = temporary
	}
	return runWith(program, config, flag.Args())
}

func runWith(program launch.Program, config launch.Config, command []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	startCtx, cancel := context.WithTimeout(ctx, 90*time.Second)
	defer cancel()
	broker, err := launch.Start(startCtx, program, config)
	if err != nil {
		fmt.Fprintln(os.Stderr, "with:", err)
		if errors.Is(err, launch.ErrAbsent) {
			return skipped
		}
		return 1
	}
	status := runCommand(ctx, broker, command)
	if status != 0 {
		fmt.Fprintf(os.Stderr, "with: status %d; the end of %s's output:\n%s\n", status, program.Name(), broker.Tail(16<<10))
	}
	stopCtx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := broker.Stop(stopCtx); err != nil {
		fmt.Fprintln(os.Stderr, "with:", err)
		return max(status, 1)
	}
	return status
}

func runCommand(ctx context.Context, broker *launch.Broker, command []string) int {
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(),
		"AMQP_URL="+broker.URL(),
		"HTTP_URL="+broker.HTTPURL(),
		"BROKER="+broker.Program.Name(),
		"BROKER_PID="+strconv.Itoa(broker.PID()),
		"BROKER_DATA="+broker.Config.DataDir(),
	)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit) && exit.ExitCode() > 0:
		return exit.ExitCode()
	default:
		fmt.Fprintln(os.Stderr, "with:", err)
		return 1
	}
}
