package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"github.com/mirrormq/mirrormq/internal/entry"
	"github.com/mirrormq/mirrormq/log"
)

func logCommand() *cli.Command {
	return &cli.Command{
		Name:  "log",
		Usage: "read the write-ahead log of a stopped broker",
		Subcommands: []*cli.Command{{
			Name: "inspect", Usage: "list every record", ArgsUsage: "DIR",
			Description: `DIR is the data directory of a stopped broker. Nothing in it is changed.

Examples:
   mirrormq log inspect ./data
   mirrormq log inspect ./data --group 1 --json | tail`,
			Flags: []cli.Flag{
				&cli.Int64Flag{Name: "group", Value: -1, DefaultText: "all", Usage: "only records of group `ID`"},
				&cli.BoolFlag{Name: "json", Usage: "an object a line"},
			},
			Action: logInspect,
		}, {
			Name: "verify", Usage: "check every checksum", ArgsUsage: "DIR",
			Description: `DIR is the data directory of a stopped broker. Nothing in it is changed. A torn
tail is no damage: it was never confirmed, and is cut at the next start. Exit
code 9 says that something that was confirmed is damaged.

Examples:
   mirrormq log verify ./data`,
			Flags:  []cli.Flag{&cli.BoolFlag{Name: "json", Usage: "print an object"}},
			Action: logVerify,
		}},
	}
}

// logDirectory is the argument, if it is a directory.
func logDirectory(c *cli.Context) (string, error) {
	args, err := positional(c, "a data directory")
	if err != nil {
		return "", err
	}
	info, err := os.Stat(args[0])
	if err != nil {
		return "", fail(exitNotFound, "", "%w", err)
	}
	if !info.IsDir() {
		return "", fail(exitUsage, "name the directory that serve was given with --data", "%s is no directory", args[0])
	}
	// The broker keeps its log in a directory of its own below --data.
	if inner := filepath.Join(args[0], "log"); isDirectory(inner) {
		return inner, nil
	}
	return args[0], nil
}

func isDirectory(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// logError tells what to do about an error of the log's.
func logError(err error) error {
	var damaged *log.DamagedError
	switch {
	case errors.Is(err, log.ErrLocked):
		return fail(exitFailure, "stop the broker first, or look at a copy", "%w", err)
	case errors.As(err, &damaged):
		return fail(exitDamaged, damagedHint, "%w", err)
	case errors.Is(err, os.ErrNotExist):
		return fail(exitNotFound, "name the directory that serve was given with --data", "%w", err)
	}
	return err
}

const damagedHint = "if it has mirrors, start the broker with an empty --data directory and have it refilled by mirrormq replace; else restore a copy of the directory"

// recordView is a record as JSON.
type recordView struct {
	File   string        `json:"file"`
	Offset int64         `json:"offset"`
	Kind   string        `json:"kind"`
	Group  entry.GroupID `json:"group"`
	Term   uint64        `json:"term,omitempty"`
	Index  uint64        `json:"index,omitempty"`
	Vote   uint64        `json:"vote,omitempty"`
	Commit uint64        `json:"commit,omitempty"`
	Size   int           `json:"size"`
}

func logInspect(c *cli.Context) error {
	dir, err := logDirectory(c)
	if err != nil {
		return err
	}
	group, asJSON := c.Int64("group"), c.Bool("json")
	w := bufio.NewWriterSize(c.App.Writer, 64<<10)
	encoder := json.NewEncoder(w)
	err = log.Inspect(dir, func(r log.RecordInfo) error {
		if c.Context.Err() != nil {
			return c.Context.Err()
		}
		if group >= 0 && int64(r.Group) != group {
			return nil
		}
		if asJSON {
			v := recordView{r.File, r.Offset, r.Kind, r.Group, r.Term, r.Index, r.HardState.Vote, r.HardState.Commit, r.Size}
			if v.Term == 0 {
				v.Term = r.HardState.Term
			}
			return encoder.Encode(v)
		}
		return printRecord(w, &r)
	})
	return errors.Join(w.Flush(), logErrorOrNil(err))
}

func logErrorOrNil(err error) error {
	if err == nil {
		return nil
	}
	return logError(err)
}

// printRecord prints one line. The columns are fixed: the records go by as
// they are read, and a log may hold millions.
func printRecord(w *bufio.Writer, r *log.RecordInfo) error {
	what := fmt.Sprintf("%d/%d", r.Term, r.Index)
	if r.HardState != (log.HardState{}) {
		what = fmt.Sprintf("term %d, vote %x, commit %d", r.HardState.Term, r.HardState.Vote, r.HardState.Commit)
	}
	_, err := fmt.Fprintf(w, "%s:%-10d  group %-10d  %-9s  %-20s  %d bytes\n", r.File, r.Offset, r.Group, r.Kind, what, r.Size)
	return err
}

// reportView is a log.Report as JSON.
type reportView struct {
	Segments    int      `json:"segments"`
	Records     int      `json:"records"`
	Checkpoints int      `json:"checkpoints"`
	Bytes       int64    `json:"bytes"`
	TornBytes   int64    `json:"torn_bytes"`
	Damaged     []string `json:"damaged"`
}

func logVerify(c *cli.Context) error {
	dir, err := logDirectory(c)
	if err != nil {
		return err
	}
	report, err := log.Verify(dir)
	if err != nil {
		return logError(err)
	}
	if err := printReport(c, &report); err != nil {
		return err
	}
	if n := len(report.Damaged); n > 0 {
		return fail(exitDamaged, damagedHint, "%s is damaged in %s", dir, plural(int64(n), "place"))
	}
	return nil
}

func printReport(c *cli.Context, r *log.Report) error {
	if c.Bool("json") {
		v := reportView{r.Segments, r.Records, r.Checkpoints, r.Bytes, r.TornBytes, []string{}}
		for _, d := range r.Damaged {
			v.Damaged = append(v.Damaged, d.Error())
		}
		return printJSON(c.App.Writer, v)
	}
	p := &lines{w: c.App.Writer}
	p.line("%s, %s, %s, %s", plural(int64(r.Segments), "segment"), plural(int64(r.Records), "record"),
		plural(int64(r.Checkpoints), "checkpoint"), formatSize(r.Bytes))
	if r.TornBytes > 0 {
		p.line("torn tail of %s: never confirmed, cut at the next start", plural(r.TornBytes, "byte"))
	}
	for _, d := range r.Damaged {
		p.line("%v", d)
	}
	if len(r.Damaged) == 0 {
		p.line("every checksum is right")
	}
	return p.err
}
