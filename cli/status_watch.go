package main

import (
	"bytes"
	"context"
	"time"

	"github.com/urfave/cli/v2"
)

// watchInterval is how often status --watch asks again.
const watchInterval = time.Second

// What a terminal understands: go to the upper left, clear the rest of a line,
// clear what is below.
const (
	toTopLeft  = "\x1b[H"
	clearLine  = "\x1b[K"
	clearBelow = "\x1b[J"
)

// frame is one picture of a watched thing, put together before it is shown so
// that the screen does not flicker.
type frame struct {
	bytes.Buffer
	marks style
}

func (f *frame) style() style { return f.marks }

// watchStatus shows the status every second until it is interrupted. A broker
// that can't be reached is told and asked again: that is when one watches.
// Elsewhere than on a terminal an empty line parts the pictures.
func watchStatus(c *cli.Context) error {
	marks, terminal := styleOf(c.App.Writer), isTerminal(c.App.Writer)
	ticker := time.NewTicker(watchInterval)
	defer ticker.Stop()
	for first := true; ; first = false {
		f := &frame{marks: marks}
		err := withAPI(c, func(ctx context.Context, a *api) error { return status(ctx, c, a, f) })
		switch {
		case c.Context.Err() != nil:
			return nil
		case err != nil && first && f.Len() == 0:
			return err
		case err != nil:
			said := classify(err)
			f.WriteString(marks.alarm(said.Error()) + "\nasking again every second\n")
		}
		text := f.Bytes()
		if terminal {
			text = bytes.ReplaceAll(text, []byte("\n"), []byte(clearLine+"\n"))
			text = append(append([]byte(toTopLeft), text...), clearBelow...)
		} else {
			text = append(text, '\n')
		}
		if _, err := c.App.Writer.Write(text); err != nil {
			return err
		}
		select {
		case <-ticker.C:
		case <-c.Context.Done():
			return nil
		}
	}
}
