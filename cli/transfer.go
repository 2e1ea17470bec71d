package main

import (
	"context"
	"errors"
	"net/http"
	"strconv"

	"github.com/urfave/cli/v2"
)

func transferCommand() *cli.Command {
	return &cli.Command{
		Name:      "transfer",
		Usage:     "have another broker lead a group",
		ArgsUsage: "GROUP BROKER",
		Description: `Any broker of the cluster can be asked. Groups are numbered as status shows them.
The group stays with that broker until it stops or is lost; publishers and
consumers notice a pause of some milliseconds.

Examples:
   mirrormq transfer 1 b3
   mirrormq transfer 0 b1 --api http://admin:secret@10.0.0.7:15672`,
		Flags: apiFlags(),
		Action: func(c *cli.Context) error {
			args, err := positional(c, "a group's number", "a broker's name")
			if err != nil {
				return err
			}
			group, err := strconv.ParseUint(args[0], 10, 32)
			if err != nil {
				return usage("%q is no group's number; see mirrormq status", args[0])
			}
			return withAPI(c, func(ctx context.Context, a *api) error { return transfer(ctx, c, a, uint32(group), args[1]) })
		},
	}
}

func transfer(ctx context.Context, c *cli.Context, a *api, group uint32, to string) error {
	request := struct {
		Group uint32 `json:"group"`
		To    string `json:"to"`
	}{group, to}
	var answer struct {
		Group  uint32 `json:"group"`
		Leader string `json:"leader"`
	}
	err := a.do(ctx, http.MethodPost, "cluster/transfer", request, &answer)
	var f *failure
	switch {
	case errors.As(err, &f) && f.code == exitNotFound:
		return fail(exitNotFound, "see mirrormq status for those that there are", "there is no group %d", group)
	case err != nil:
		return err
	}
	if c.Bool("json") {
		return printJSON(c.App.Writer, answer)
	}
	say(c, "%s leads group %d", answer.Leader, answer.Group)
	return nil
}
