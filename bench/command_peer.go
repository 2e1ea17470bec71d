package bench

import (
	"log/slog"
	"net"

	"github.com/urfave/cli/v2"

	"github.com/mirrormq/mirrormq/bench/peer"
)

// peerCommand serves as a broker that compare starts beside ours. It is hidden:
// nobody else needs it.
func peerCommand() *cli.Command {
	return &cli.Command{
		Name: "peer", Usage: "serve as a broker to compare with", Hidden: true,
		Subcommands: []*cli.Command{
			{
				Name: "null", Usage: "a broker that keeps nothing: the ceiling of any",
				Flags: []cli.Flag{&cli.StringFlag{Name: "amqp", Usage: "address for clients"}},
				Action: func(c *cli.Context) error {
					listener, err := net.Listen("tcp", c.String("amqp"))
					if err != nil {
						return err
					}
					return peer.Null(c.Context, listener)
				},
			},
			{
				Name: "jetstream", Usage: "a NATS server with JetStream",
				Flags: []cli.Flag{
					&cli.StringFlag{Name: "name", Usage: "the server's name"},
					&cli.StringFlag{Name: "data", Usage: "directory of its streams"},
					&cli.StringFlag{Name: "listen", Usage: "address for clients"},
					&cli.StringFlag{Name: "http", Usage: "address for monitoring"},
					&cli.StringFlag{Name: "cluster", Usage: "address for routes"},
					&cli.StringSliceFlag{Name: "route", Usage: "a member's address for routes"},
					&cli.BoolFlag{Name: "sync-always", Usage: "sync each write before the answer"},
				},
				Action: func(c *cli.Context) error {
					return peer.JetStream(c.Context, peer.JetStreamConfig{
						Name: c.String("name"), Data: c.String("data"), Listen: c.String("listen"), HTTP: c.String("http"),
						Cluster: c.String("cluster"), Routes: c.StringSlice("route"), SyncAlways: c.Bool("sync-always"),
						Logger: slog.New(slog.NewTextHandler(c.App.ErrWriter, nil)),
					})
				},
			},
		},
	}
}
