//go:build !unix

package amqp

import "io"

func newSource(r io.Reader) source { return &streamSource{stream: r, drained: true} }
