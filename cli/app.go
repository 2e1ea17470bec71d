package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/mirrormq/mirrormq/bench"
	"github.com/mirrormq/mirrormq/broker"
)

// version can be set by the build: -ldflags "-X main.version=…".
var version = broker.Version

// run executes one command line and returns its exit code. ctx ends when the
// command is to end cleanly.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	app := newApp(stdin, stdout, stderr)
	err := app.RunContext(ctx, permute(app, args))
	if err == nil {
		return exitOK
	}
	f := classify(err)
	_, _ = fmt.Fprintf(stderr, "mirrormq: %v\n", f)
	if f.hint != "" {
		_, _ = fmt.Fprintf(stderr, "hint: %s\n", f.hint)
	} else if f.code == exitUsage {
		_, _ = fmt.Fprintf(stderr, "hint: see mirrormq %s--help\n", commandPath(app, args))
	}
	return f.code
}

// benchCommand is the load generator, which starts this program as a broker.
func benchCommand() *cli.Command {
	self, err := os.Executable()
	if err != nil {
		self = "mirrormq"
	}
	return bench.Command(self)
}

func newApp(stdin io.Reader, stdout, stderr io.Writer) *cli.App {
	app := &cli.App{
		Name:    "mirrormq",
		Usage:   "a replicated message queue broker that RabbitMQ's clients can use",
		Version: version,
		Description: "Start a broker, then talk to it:\n\n" +
			"   mirrormq serve --data ./data\n" +
			"   mirrormq publish --declare hello 'first message'\n" +
			"   mirrormq consume hello\n\n" +
			"Or three brokers that mirror one another: mirrormq cluster --data ./data\n\n" + exitCodesHelp,
		Commands: []*cli.Command{
			serveCommand(), clusterCommand(),
			publishCommand(), consumeCommand(), getCommand(),
			declareCommand(), bindCommand(), unbindCommand(), purgeCommand(), deleteCommand(),
			statusCommand(), queuesCommand(), transferCommand(), replaceCommand(),
			logCommand(), benchCommand(),
			completionCommand(), versionCommand(),
		},
		Reader:                    stdin,
		Writer:                    stdout,
		ErrWriter:                 stderr,
		HideVersion:               true,
		HideHelpCommand:           true,
		EnableBashCompletion:      true,
		DisableSliceFlagSeparator: true, // --header 'a=1,2' is one header.
		ExitErrHandler:            func(*cli.Context, error) {},
		OnUsageError:              usageError,
	}
	app.Action = groupAction(func(*cli.Context) []*cli.Command { return app.Commands })
	finish(app.Commands)
	return app
}

// finish gives every command what they all have.
func finish(commands []*cli.Command) {
	for _, c := range commands {
		c.OnUsageError = usageError
		// `publish help` publishes to the queue "help".
		c.HideHelpCommand = true
		if len(c.Subcommands) > 0 && c.Action == nil {
			list := c.Subcommands
			c.Action = groupAction(func(*cli.Context) []*cli.Command { return list })
		}
		finish(c.Subcommands)
	}
}

func usageError(_ *cli.Context, err error, _ bool) error {
	return usage("%s", strings.Replace(err.Error(), "flag provided but not defined: -", "no such flag: --", 1))
}

// groupAction is what a command does that only has subcommands: help, or an
// error that names what was meant.
func groupAction(list func(*cli.Context) []*cli.Command) cli.ActionFunc {
	return func(c *cli.Context) error {
		given := c.Args().First()
		if given == "" {
			if c.Command == nil || len(c.Lineage()) <= 2 && c.Command.Name == c.App.Name {
				return cli.ShowAppHelp(c)
			}
			return cli.ShowSubcommandHelp(c)
		}
		var names []string
		for _, command := range list(c) {
			names = append(names, command.Names()...)
		}
		if near := nearest(given, names); near != "" {
			return usage("no command %q; did you mean %q?", given, near)
		}
		return usage("no command %q", given)
	}
}

// permute moves the flags of the command before its arguments, which is where
// urfave/cli wants them; people write them behind as well. What follows "--"
// is left alone.
func permute(app *cli.App, args []string) []string {
	if len(args) == 0 || args[len(args)-1] == "--generate-bash-completion" {
		return args
	}
	command, n := findCommand(app, args)
	if command == nil {
		return args
	}
	var flags, positional []string
	rest := args[n:]
	for i := 0; i < len(rest); i++ {
		arg := rest[i]
		if arg == "--" {
			positional = append(positional, rest[i+1:]...)
			break
		}
		if len(arg) < 2 || arg[0] != '-' {
			positional = append(positional, arg)
			continue
		}
		flags = append(flags, arg)
		if takesValue(command, arg) && i+1 < len(rest) {
			i++
			flags = append(flags, rest[i])
		}
	}
	out := append(slices.Clone(args[:n]), flags...)
	if len(positional) > 0 {
		out = append(append(out, "--"), positional...)
	}
	return out
}

// findCommand is the innermost command that args name, and where its own
// arguments begin; nil if there is none, or it only has subcommands.
func findCommand(app *cli.App, args []string) (*cli.Command, int) {
	list := app.Commands
	for i := 1; i < len(args); i++ {
		at := slices.IndexFunc(list, func(c *cli.Command) bool { return c.HasName(args[i]) })
		if at < 0 {
			return nil, 0
		}
		if len(list[at].Subcommands) == 0 {
			return list[at], i + 1
		}
		list = list[at].Subcommands
	}
	return nil, 0
}

// commandPath is the named commands with a space behind each, for the hint.
func commandPath(app *cli.App, args []string) string {
	path := ""
	list := app.Commands
	for _, arg := range args[min(1, len(args)):] {
		at := slices.IndexFunc(list, func(c *cli.Command) bool { return c.HasName(arg) })
		if at < 0 {
			break
		}
		path += list[at].Name + " "
		list = list[at].Subcommands
	}
	return path
}

func takesValue(command *cli.Command, arg string) bool {
	name := strings.TrimLeft(arg, "-")
	if strings.Contains(name, "=") {
		return false
	}
	for _, f := range command.Flags {
		if slices.Contains(f.Names(), name) {
			_, isBool := f.(*cli.BoolFlag)
			return !isBool
		}
	}
	return false
}

// positional returns the command's arguments if there are as many as names.
func positional(c *cli.Context, names ...string) ([]string, error) {
	args := c.Args().Slice()
	if len(args) < len(names) {
		return nil, usage("%s needs %s", c.Command.HelpName, strings.Join(names[len(args):], " and "))
	}
	if len(args) > len(names) {
		return nil, usage("unexpected argument %q", args[len(names)])
	}
	return args, nil
}

// nearest is the name that differs least from given, "" if none is near.
func nearest(given string, names []string) string {
	best, least := "", 3
	for _, name := range names {
		if d := distance(given, name); d < least && d < len(name) {
			best, least = name, d
		}
	}
	return best
}

// distance is Levenshtein's edit distance.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}

// oneOf checks a flag whose values are words.
func oneOf(flag, value string, allowed ...string) error {
	if slices.Contains(allowed, value) {
		return nil
	}
	return usage("--%s %q: use %s", flag, value, strings.Join(allowed, ", "))
}
