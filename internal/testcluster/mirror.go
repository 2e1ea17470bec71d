package testcluster

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
)

// Mirror is what a group's leader says of one of its mirrors.
type Mirror struct {
	Name string `json:"name"`
	// Lag is how many entries it lacks.
	Lag   uint64 `json:"lag"`
	Heard bool   `json:"heard"`
	// Behind says that it needs a checkpoint.
	Behind bool `json:"behind"`
}

// caughtUp is how many entries a mirror may lack that has caught up: what is on
// the way while clients publish.
const caughtUp = 32

// CaughtUp says that the mirror has what its leader has, but for what is on the
// way.
func (m Mirror) CaughtUp() bool { return m.Heard && !m.Behind && m.Lag <= caughtUp }

// Mirror asks the leader of a group for its mirror on a broker.
func (b *Broker) Mirror(ctx context.Context, group uint32, on *Broker) (Mirror, error) {
	var v struct {
		Groups []struct {
			ID      uint32   `json:"id"`
			Mirrors []Mirror `json:"mirrors"`
		} `json:"groups"`
	}
	if err := b.get(ctx, "/api/cluster", func(r io.Reader) error { return json.NewDecoder(r).Decode(&v) }); err != nil {
		return Mirror{}, err
	}
	for _, g := range v.Groups {
		for _, m := range g.Mirrors {
			if g.ID == group && m.Name == on.Name {
				return m, nil
			}
		}
	}
	return Mirror{}, fmt.Errorf("testcluster: %s does not lead group %d", b.Name, group)
}

// Transfer has a broker lead a group. b is any broker.
func (b *Broker) Transfer(ctx context.Context, group uint32, to *Broker) error {
	body, err := json.Marshal(map[string]any{"group": group, "to": to.Name})
	if err != nil {
		return err
	}
	return b.ask(ctx, http.MethodPost, "/api/cluster/transfer", bytes.NewReader(body), nil)
}
