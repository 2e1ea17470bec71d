package main

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// clusterStatus is the part of GET /api/cluster that is shown.
type clusterStatus struct {
	Name      string `json:"name"`
	AckQuorum string `json:"ack_quorum"`
	Brokers   []struct {
		Name     string    `json:"name"`
		Address  string    `json:"address"`
		Running  bool      `json:"running"`
		Since    time.Time `json:"since"`
		DataLost bool      `json:"data_lost"`
	} `json:"brokers"`
	Groups []struct {
		ID        uint32         `json:"id"`
		Kind      string         `json:"kind"`
		Role      string         `json:"role"`
		Leader    string         `json:"leader"`
		Preferred string         `json:"preferred_leader"`
		Members   []string       `json:"members"`
		Term      uint64         `json:"term"`
		Commit    uint64         `json:"commit"`
		Last      uint64         `json:"last"`
		Lag       uint64         `json:"lag"`
		Mirrors   []mirrorStatus `json:"mirrors"`
	} `json:"groups"`
	Promotions []struct {
		Group      uint32    `json:"group"`
		When       time.Time `json:"when"`
		From       string    `json:"from"`
		To         string    `json:"to"`
		Term       uint64    `json:"term"`
		Reason     string    `json:"reason"`
		Clean      bool      `json:"clean"`
		Leaderless float64   `json:"leaderless_ms"`
		Positions  []struct {
			Broker string `json:"broker"`
			Term   uint64 `json:"term"`
			Index  uint64 `json:"index"`
		} `json:"positions"`
	} `json:"promotions"`
	PromotionsTotal   uint64 `json:"promotions_total"`
	PromotionsUnclean uint64 `json:"promotions_unclean"`
}

type mirrorStatus struct {
	Name   string `json:"name"`
	Lag    uint64 `json:"lag"`
	Heard  bool   `json:"heard"`
	Behind bool   `json:"behind"`
}

// print shows the cluster as of now, with up to that many promotions.
func (v *clusterStatus) print(w io.Writer, now time.Time, promotions int) error {
	s := styleOf(w)
	p := &lines{w: w}
	p.line("")
	var rows [][]string
	down := 0
	for _, b := range v.Brokers {
		state := "up"
		switch {
		case b.DataLost:
			state = "WITHOUT ITS DATA: kept out, see mirrormq replace"
		case !b.Running:
			state = "DOWN"
		}
		if !b.Running {
			down++
		}
		name := b.Name
		if name == v.Name {
			name += " (asked)"
		}
		rows = append(rows, []string{name, state, ago(now, b.Since), b.Address})
	}
	p.table([]string{"BROKER", "STATE", "FOR", "BACKBONE"}, rows)
	if 2*(len(v.Brokers)-down) <= len(v.Brokers) {
		p.line("%s", s.alarm("No majority can be reached from here: nothing is confirmed"))
	}
	p.line("")
	v.printGroups(p)
	p.line("")
	unclean := thousands(v.PromotionsUnclean) + " unclean"
	if v.PromotionsUnclean > 0 {
		unclean = s.alarm(unclean + ": confirmed messages may be lost")
	}
	p.line("Quorum       publishes are confirmed at %s unless their queue says otherwise", quorumWords(v.AckQuorum))
	p.line("Promotions   %s seen, %s", thousands(v.PromotionsTotal), unclean)
	v.printPromotions(p, now, promotions)
	return p.err
}

func (v *clusterStatus) printGroups(p *lines) {
	var rows [][]string
	for _, g := range v.Groups {
		leader := g.Leader
		switch {
		case leader == "":
			leader = "NONE"
		case g.Preferred != "" && leader != g.Preferred:
			leader += " (for " + g.Preferred + ")"
		}
		here := g.Role
		if g.Lag > 0 {
			here += fmt.Sprintf(", lacks %s", thousands(g.Lag))
		}
		commit, last := fmt.Sprint(g.Commit), fmt.Sprint(g.Last)
		if g.Role == "none" {
			here, commit, last = "no copy", "-", "-"
		}
		mirrors := "ask " + g.Leader
		if g.Role == "leader" || g.Leader == "" {
			mirrors = "none"
		}
		if len(g.Mirrors) > 0 {
			mirrors = ""
			for i, m := range g.Mirrors {
				if i > 0 {
					mirrors += ", "
				}
				mirrors += m.String()
			}
		}
		rows = append(rows, []string{
			fmt.Sprint(g.ID), g.Kind, leader, orDash(strings.Join(g.Members, " ")), fmt.Sprint(g.Term), commit, last, here, mirrors,
		})
	}
	p.table([]string{"GROUP", "OF", "LEADER", "COPIES", "TERM", "COMMIT", "LAST", "HERE", "MIRRORS"}, rows)
}

func (v *clusterStatus) printPromotions(p *lines, now time.Time, most int) {
	if len(v.Promotions) == 0 || most < 1 {
		return
	}
	p.line("")
	var rows [][]string
	for _, o := range v.Promotions[:min(most, len(v.Promotions))] {
		var positions []string
		for _, at := range o.Positions {
			positions = append(positions, fmt.Sprintf("%s %d/%d", at.Broker, at.Term, at.Index))
		}
		reason := o.Reason
		if !o.Clean {
			reason += ", UNCLEAN"
		}
		rows = append(rows, []string{
			ago(now, o.When) + " ago", fmt.Sprint(o.Group), orDash(o.From), o.To, fmt.Sprint(o.Term), reason,
			fmt.Sprintf("%.0f ms", o.Leaderless), orDash(strings.Join(positions, ", ")),
		})
	}
	p.table([]string{"PROMOTED", "GROUP", "FROM", "TO", "TERM", "BECAUSE", "LEADERLESS", "POSITIONS (TERM/INDEX)"}, rows)
}

// String is a mirror in a word.
func (m mirrorStatus) String() string {
	switch {
	case !m.Heard:
		return m.Name + " SILENT"
	case m.Behind:
		return m.Name + " waits for a checkpoint"
	case m.Lag > 0:
		return m.Name + " lacks " + thousands(m.Lag)
	}
	return m.Name + " has all"
}

func quorumWords(quorum string) string {
	switch quorum {
	case "leader":
		return "the leader alone"
	case "majority":
		return "a majority"
	case "all":
		return "all copies"
	}
	return quorum + " copies"
}

func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}

// ago is how long before now a time was, in its largest two units at most.
func ago(now, then time.Time) string {
	d := max(now.Sub(then), 0)
	switch {
	case d < time.Minute:
		return d.Truncate(time.Second).String()
	case d < time.Hour:
		return fmt.Sprintf("%dm%ds", d/time.Minute, d%time.Minute/time.Second)
	case d < 24*time.Hour:
		return fmt.Sprintf("%dh%dm", d/time.Hour, d%time.Hour/time.Minute)
	}
	return fmt.Sprintf("%dd%dh", d/(24*time.Hour), d%(24*time.Hour)/time.Hour)
}
