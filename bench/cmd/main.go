// Command cmd is the load generator as a program of its own, the same as
// `mirrormq bench`: it measures other brokers without building ours.
//
//	go run ./bench/cmd run --broker rabbitmq
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/urfave/cli/v2"

	"github.com/mirrormq/mirrormq/bench"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	command := bench.Command("./mirrormq")
	app := &cli.App{Name: "bench", Usage: command.Usage, Description: command.Description, Commands: command.Subcommands}
	if err := app.RunContext(ctx, os.Args); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
