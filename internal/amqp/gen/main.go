// Command gen writes methods_gen.go of the package it is started in: AMQP's
// constants, methods and properties, from the specification's XML as the
// module rabbitmq/amqp091-go carries it, with RabbitMQ's extensions. The XML
// is read where the Go tool keeps that module; it is not copied here.
package main

import (
	"fmt"
	"os"
)

const output = "methods_gen.go"

func main() {
	source, err := generate()
	if err == nil {
		err = os.WriteFile(output, source, 0o644)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}

func generate() ([]byte, error) {
	s, err := readSpec()
	if err != nil {
		return nil, err
	}
	if err := s.complete(); err != nil {
		return nil, err
	}
	return render(s)
}
