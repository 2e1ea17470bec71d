// Package admin is the broker's HTTP side: health checks, Prometheus metrics
// and the management API with the paths and JSON field names that RabbitMQ's
// management plugin uses, so that its tools work here unchanged.
//
// What it shows comes from a [Source], which the broker implements; admin
// keeps no state of its own but the samples that rates are computed from. It
// knows neither queues nor logs nor connections, only the plain structs of
// source.go.
//
// The ways through the package:
//
//	server.go   listens, stops, dispatches: health and metrics beside the API
//	router.go   the table of API paths: one line for each resource and method
//	auth.go     HTTP basic authentication in front of everything but health
//	api_*.go    one file for each family of resources
//	view.go     Source structs to RabbitMQ's JSON
//	view_cluster.go  the cluster's, which is MirrorMQ's own
//	list.go     paging and filtering, the same for every list
//	rates.go    samples counters and turns them into RabbitMQ's "…_details"
//	metrics.go  counters and histograms that the broker's rooms feed
//	collect.go  the Prometheus collector over Source
//
// A further resource of the management API is a handler and a line in
// router.go; a user interface is a further handler in server.go.
package admin
