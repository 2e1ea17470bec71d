package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/urfave/cli/v2"
)

func versionCommand() *cli.Command {
	return &cli.Command{
		Name:  "version",
		Usage: "print the version",
		Description: `Examples:
   mirrormq version`,
		Flags: []cli.Flag{&cli.BoolFlag{Name: "json", Usage: "print an object"}},
		Action: func(c *cli.Context) error {
			revision := ""
			if info, ok := debug.ReadBuildInfo(); ok {
				for _, s := range info.Settings {
					if s.Key == "vcs.revision" {
						revision = s.Value[:min(12, len(s.Value))]
					}
				}
			}
			if c.Bool("json") {
				return printJSON(c.App.Writer, map[string]string{"version": version, "revision": revision, "go": runtime.Version()})
			}
			text := "mirrormq " + version
			if revision != "" {
				text += " (" + revision + ")"
			}
			_, err := fmt.Fprintln(c.App.Writer, text, runtime.Version(), runtime.GOOS+"/"+runtime.GOARCH)
			return err
		},
	}
}
