package broker

// Version is MirrorMQ's version, as clients and the HTTP API see it.
const Version = "0.1.0"
