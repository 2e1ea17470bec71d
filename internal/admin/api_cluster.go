package admin

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"
)

// transferTime is how long a transfer of leadership may take: it takes
// milliseconds where all is well.
const transferTime = 5 * time.Second

// maxRequest bounds a request's body.
const maxRequest = 64 << 10

func (s *Server) cluster(w http.ResponseWriter, _ *http.Request, _ []string) {
	cluster := s.config.Source.Cluster()
	slices.SortFunc(cluster.Brokers, func(a, b Broker) int { return cmp.Compare(a.Name, b.Name) })
	slices.Reverse(cluster.Promotions)
	groups := s.groups()
	for i := range groups {
		slices.SortFunc(groups[i].Mirrors, func(a, b Mirror) int { return cmp.Compare(a.Name, b.Name) })
	}
	writeJSON(w, clusterView{
		Name: s.config.Source.Node().Name, AckQuorum: cluster.AckQuorum,
		Brokers: views(cluster.Brokers, newBrokerView), Groups: views(groups, newClusterGroupView),
		Promotions:      views(cluster.Promotions, newPromotionView),
		PromotionsTotal: cluster.PromotionsTotal, PromotionsUnclean: cluster.PromotionsUnclean,
	})
}

// transferRequest is the body of POST /api/cluster/transfer.
type transferRequest struct {
	Group *uint32 `json:"group"`
	To    string  `json:"to"`
}

// transfer has another broker lead a group. It answers when that broker does.
func (s *Server) transfer(w http.ResponseWriter, r *http.Request, _ []string) {
	var request transferRequest
	if !s.ordered(w, r, &request) {
		return
	}
	if request.Group == nil || request.To == "" {
		badRequest(w, `want {"group": NUMBER, "to": "BROKER"}`)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), transferTime)
	defer cancel()
	done(w, s.config.Source.Transfer(ctx, *request.Group, request.To), struct {
		Group  uint32 `json:"group"`
		Leader string `json:"leader"`
	}{*request.Group, request.To})
}

// replaceTime is how long a newcomer may take to become a member.
const replaceTime = 20 * time.Second

// replaceRequest is the body of POST /api/cluster/replace, and its answer.
type replaceRequest struct {
	Broker string `json:"broker"`
}

// replace lets a broker that has lost its data take part again. It answers when
// it is a member of all groups.
func (s *Server) replace(w http.ResponseWriter, r *http.Request, _ []string) {
	var request replaceRequest
	if !s.ordered(w, r, &request) {
		return
	}
	if request.Broker == "" {
		badRequest(w, `want {"broker": "NAME"}`)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), replaceTime)
	defer cancel()
	done(w, s.config.Source.Replace(ctx, request.Broker), request)
}

// ordered decodes the body of what an administrator wants done, or answers why
// it is not.
func (s *Server) ordered(w http.ResponseWriter, r *http.Request, request any) bool {
	user, _, _ := r.BasicAuth() // authenticated has seen it.
	if !slices.Contains(s.config.Source.UserTags(user), "administrator") {
		writeError(w, http.StatusForbidden, "not_authorised", "User not administrator")
		return false
	}
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxRequest)).Decode(request); err != nil {
		badRequest(w, err.Error())
		return false
	}
	return true
}

// done answers what came of an order.
func done(w http.ResponseWriter, err error, answer any) {
	switch {
	case errors.Is(err, ErrNotFound):
		writeError(w, http.StatusNotFound, "Object Not Found", because(err, ErrNotFound))
	case errors.Is(err, ErrRefused):
		writeError(w, http.StatusConflict, "refused", because(err, ErrRefused))
	case err != nil:
		writeError(w, http.StatusServiceUnavailable, "not_done", err.Error())
	default:
		writeJSON(w, answer)
	}
}

// because is what err says behind the sentinel that it begins with.
func because(err, sentinel error) string {
	return strings.TrimPrefix(err.Error(), sentinel.Error()+": ")
}
