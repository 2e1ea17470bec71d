// Package log is the broker's one write-ahead log, over tidwall/wal.
package log
