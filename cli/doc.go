// Command mirrormq is the broker and the tools around it in one binary.
//
// serve runs a broker, cluster several of them as child processes. The other
// commands are clients: those that move messages or change queues, exchanges and bindings speak AMQP 0-9-1 (--url),
// those that look inside use the HTTP API (--api), and log reads the files of
// a stopped broker. All but serve work with any RabbitMQ, too.
//
// One file holds one command or one concern:
//
//	main.go      signals, and the only call of os.Exit
//	app.go       the table of commands, and argument order
//	exit.go      exit codes, and errors that say what to do next
//	config.go    --config
//	serve*.go    serve and its flags
//	cluster*.go, child*.go, prefix.go   cluster
//	connect.go   AMQP connections: several URLs, errors, interruption
//	publish*.go, consume.go, get.go, topology.go, output.go   AMQP commands
//	api.go, status*.go, queues.go, transfer.go, replace.go    HTTP commands
//
// Everything a person is told goes to standard error; standard output carries
// messages, tables and JSON only, so that it can be piped.
package main
