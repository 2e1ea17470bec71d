package admin

import (
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// handler answers one request for an API path. args are the path's variable
// segments, unescaped, in order.
type handler func(w http.ResponseWriter, r *http.Request, args []string)

// route is a resource of the API: its path, where "*" stands for a variable
// segment, and what answers each method.
type route struct {
	path    string
	methods map[string]handler
}

// routes is the whole API. A GET serves HEAD as well.
func (s *Server) routes() []route {
	get := func(h handler) map[string]handler { return map[string]handler{http.MethodGet: h} }
	return []route{
		{"overview", get(s.overview)},
		{"whoami", get(s.whoami)},
		{"nodes", get(s.nodes)},
		{"nodes/*", get(s.node)},
		{"cluster", get(s.cluster)},
		{"cluster/transfer", map[string]handler{http.MethodPost: s.transfer}},
		{"cluster/replace", map[string]handler{http.MethodPost: s.replace}},
		{"vhosts", get(s.vhosts)},
		{"vhosts/*", get(s.vhost)},
		{"connections", get(s.connections)},
		{"connections/*", map[string]handler{
			http.MethodGet:    s.connection,
			http.MethodDelete: s.closeConnection,
		}},
		{"connections/*/channels", get(s.connectionChannels)},
		{"vhosts/*/connections", get(s.vhostConnections)},
		{"channels", get(s.channels)},
		{"channels/*", get(s.channel)},
		{"queues", get(s.queues)},
		{"queues/*", get(s.queuesOf)},
		{"queues/*/*", get(s.queue)},
		{"queues/*/*/bindings", get(s.queueBindings)},
		{"exchanges", get(s.exchanges)},
		{"exchanges/*", get(s.exchangesOf)},
		{"exchanges/*/*", get(s.exchange)},
		{"exchanges/*/*/bindings/source", get(s.exchangeBindings)},
		{"exchanges/*/*/bindings/destination", get(s.exchangeBindings)},
		{"bindings", get(s.bindings)},
		{"bindings/*", get(s.bindingsOf)},
	}
}

// apiPrefix is where the API begins.
const apiPrefix = "/api/"

func isAPI(r *http.Request) bool { return strings.HasPrefix(r.URL.Path, apiPrefix) }

// router finds the route of a request. http.ServeMux is not used since it
// redirects paths that it finds unclean (names may be "..") and answers what it
// does not know in plain text.
type router struct {
	routes   []route
	segments [][]string // of each route's path
}

func newRouter(routes []route) *router {
	t := &router{routes: routes}
	for _, r := range routes {
		t.segments = append(t.segments, strings.Split(r.path, "/"))
	}
	return t
}

// ServeHTTP implements http.Handler.
func (t *router) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := strings.TrimPrefix(r.URL.EscapedPath(), apiPrefix)
	// "/api/connections/" is the list, as in RabbitMQ.
	segments := strings.Split(strings.TrimSuffix(path, "/"), "/")
	for i, pattern := range t.segments {
		if args, ok := match(pattern, segments); ok {
			t.routes[i].serve(w, r, args)
			return
		}
	}
	notFound(w)
}

func (t route) serve(w http.ResponseWriter, r *http.Request, args []string) {
	h := t.methods[r.Method]
	if r.Method == http.MethodHead {
		h = t.methods[http.MethodGet]
	}
	if h == nil {
		w.Header().Set("Allow", allowed(t.methods))
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	}
	h(w, r, args)
}

// match compares a path with a pattern and returns the variable segments. No
// name is empty: the default exchange is asked for as "amq.default".
func match(pattern, segments []string) (args []string, ok bool) {
	if len(pattern) != len(segments) {
		return nil, false
	}
	for i, p := range pattern {
		if p != "*" {
			if p != segments[i] {
				return nil, false
			}
			continue
		}
		arg, err := url.PathUnescape(segments[i])
		if err != nil || arg == "" {
			return nil, false
		}
		args = append(args, arg)
	}
	return args, true
}

func allowed(methods map[string]handler) string {
	names := make([]string, 0, len(methods)+1)
	for m := range methods {
		names = append(names, m)
		if m == http.MethodGet {
			names = append(names, http.MethodHead)
		}
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

// writeJSON answers with v.
func writeJSON(w http.ResponseWriter, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		// Every view is made of marshalable values: see jsonValue.
		panic("admin: view that is no JSON: " + err.Error())
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-cache")
	_, _ = w.Write(body) // The client is gone; nobody is left to tell.
}

// writeError answers with RabbitMQ's error object.
func writeError(w http.ResponseWriter, status int, kind, reason string) {
	body, _ := json.Marshal(map[string]string{"error": kind, "reason": reason})
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

func notFound(w http.ResponseWriter) {
	writeError(w, http.StatusNotFound, "Object Not Found", "Not Found")
}

func badRequest(w http.ResponseWriter, reason string) {
	writeError(w, http.StatusBadRequest, "bad_request", reason)
}
