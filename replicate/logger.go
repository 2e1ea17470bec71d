package replicate

import (
	"context"
	"fmt"
	"log/slog"
)

// raftLogger passes raft's lines to slog. What raft calls info tells each step
// of each election and is debug to an operator; roles are in Status.
type raftLogger struct{ to *slog.Logger }

// contradiction is what raft panics with: its log and what it was told cannot
// both be true. The Node turns it into ErrFailed.
type contradiction string

func (c contradiction) Error() string { return string(c) }

func (l raftLogger) print(level slog.Level, v []any) {
	if l.to.Enabled(context.Background(), level) {
		l.to.Log(context.Background(), level, fmt.Sprint(v...))
	}
}

func (l raftLogger) printf(level slog.Level, format string, v []any) {
	if l.to.Enabled(context.Background(), level) {
		l.to.Log(context.Background(), level, fmt.Sprintf(format, v...))
	}
}

func (l raftLogger) Debug(...any)                {}
func (l raftLogger) Debugf(string, ...any)       {}
func (l raftLogger) Info(v ...any)               { l.print(slog.LevelDebug, v) }
func (l raftLogger) Infof(f string, v ...any)    { l.printf(slog.LevelDebug, f, v) }
func (l raftLogger) Warning(v ...any)            { l.print(slog.LevelInfo, v) }
func (l raftLogger) Warningf(f string, v ...any) { l.printf(slog.LevelInfo, f, v) }
func (l raftLogger) Error(v ...any)              { l.print(slog.LevelError, v) }
func (l raftLogger) Errorf(f string, v ...any)   { l.printf(slog.LevelError, f, v) }
func (l raftLogger) Fatal(v ...any)              { panic(contradiction(fmt.Sprint(v...))) }
func (l raftLogger) Fatalf(f string, v ...any)   { panic(contradiction(fmt.Sprintf(f, v...))) }
func (l raftLogger) Panic(v ...any)              { panic(contradiction(fmt.Sprint(v...))) }
func (l raftLogger) Panicf(f string, v ...any)   { panic(contradiction(fmt.Sprintf(f, v...))) }
