package main

import (
	"context"
	"errors"
	"net/http"

	"github.com/urfave/cli/v2"
)

func replaceCommand() *cli.Command {
	return &cli.Command{
		Name:      "replace",
		Usage:     "let a broker that has lost its data take part again",
		ArgsUsage: "BROKER",
		Description: `A broker that comes back with an empty data directory is kept out: it has
forgotten what it promised, and so has an id that nobody may trust again. This
removes that id from all groups and takes the broker in as a new member, which
gets all data from the others and then votes again. A majority of the brokers has
to be there without it. What only the lost data had is lost.

First make sure that the data are really gone (no disk that is not mounted), and
start the broker with its name and an empty --data directory. Any other broker of
the cluster can be asked.

Examples:
   mirrormq replace b3 --api http://127.0.0.1:15672`,
		Flags: apiFlags(),
		Action: func(c *cli.Context) error {
			args, err := positional(c, "a broker's name")
			if err != nil {
				return err
			}
			return withAPI(c, func(ctx context.Context, a *api) error { return replace(ctx, c, a, args[0]) })
		},
	}
}

func replace(ctx context.Context, c *cli.Context, a *api, name string) error {
	request := struct {
		Broker string `json:"broker"`
	}{name}
	err := a.do(ctx, http.MethodPost, "cluster/replace", request, &request)
	var f *failure
	switch {
	case errors.As(err, &f) && f.code == exitNotFound:
		return fail(exitNotFound, "see mirrormq status for those that there are; a broker can't replace itself", "there is no other broker %q", name)
	case err != nil:
		return err
	}
	if c.Bool("json") {
		return printJSON(c.App.Writer, request)
	}
	say(c, "%s is a member again, and gets its data from the others; mirrormq status shows how far it is", name)
	return nil
}
