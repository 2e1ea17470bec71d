package testcluster

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
)

// Promotion is what a broker tells of a change of a group's leader.
type Promotion struct {
	Group    uint32 `json:"group"`
	From, To string
	Term     uint64 `json:"term"`
	Reason   string `json:"reason"`
	Clean    bool   `json:"clean"`
	// Leaderless is how long the group had no leader, in ms.
	Leaderless float64 `json:"leaderless_ms"`
	// Positions are those that were compared.
	Positions []Standing `json:"positions"`
}

// Standing is where a mirror's log ended.
type Standing struct {
	Broker      string
	Term, Index uint64
}

func (p *Promotion) String() string {
	return fmt.Sprintf("group %d, term %d: %s after %s (%s, clean %t), compared %v", p.Group, p.Term, p.To, p.From, p.Reason, p.Clean, p.Positions)
}

// check says what is wrong with the promotion: it has to be clean, with the
// position of the promoted among those of all the living, and none above it.
func (p *Promotion) check(living []*Broker) error {
	at := make(map[string]Standing)
	for _, s := range p.Positions {
		at[s.Broker] = s
	}
	if !p.Clean {
		return fmt.Errorf("unclean: %v", p)
	}
	for _, b := range living {
		s, known := at[b.Name]
		if !known {
			return fmt.Errorf("the position of %s, which lives, was not compared: %v", b.Name, p)
		}
		if best := at[p.To]; s.Term > best.Term || s.Term == best.Term && s.Index > best.Index {
			return fmt.Errorf("%s was further than the promoted: %v", b.Name, p)
		}
	}
	return nil
}

// promotions asks b what changes of leaders it has seen, newest first.
func (b *Broker) promotions(ctx context.Context) ([]Promotion, error) {
	var cluster struct{ Promotions []Promotion }
	err := b.get(ctx, "/api/cluster", func(r io.Reader) error { return json.NewDecoder(r).Decode(&cluster) })
	return cluster.Promotions, err
}
