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
	user, _, _ := r.BasicAuth() // authenticated has seen it.
	if !slices.Contains(s.config.Source.UserTags(user), "administrator") {
		writeError(w, http.StatusForbidden, "not_authorised", "User not administrator")
		return
	}
	var request transferRequest
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxRequest)).Decode(&request); err != nil {
		badRequest(w, err.Error())
		return
	}
	if request.Group == nil || request.To == "" {
		badRequest(w, `want {"group": NUMBER, "to": "BROKER"}`)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), transferTime)
	defer cancel()
	err := s.config.Source.Transfer(ctx, *request.Group, request.To)
	switch {
	case errors.Is(err, ErrNotFound):
		writeError(w, http.StatusNotFound, "Object Not Found", because(err, ErrNotFound))
	case errors.Is(err, ErrRefused):
		writeError(w, http.StatusConflict, "refused", because(err, ErrRefused))
	case err != nil:
		writeError(w, http.StatusServiceUnavailable, "not_done", err.Error())
	default:
		writeJSON(w, struct {
			Group  uint32 `json:"group"`
			Leader string `json:"leader"`
		}{*request.Group, request.To})
	}
}

// because is what err says behind the sentinel that it begins with.
func because(err, sentinel error) string {
	return strings.TrimPrefix(err.Error(), sentinel.Error()+": ")
}
