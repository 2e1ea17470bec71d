package main

import (
	"context"
	"net/http"
	"strings"
	"time"
)

// awaitReady waits until every broker serves, and reports false when that was
// not to be.
func (l *localCluster) awaitReady(ctx context.Context) bool {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Second}
	poll := time.NewTicker(readyPoll)
	defer poll.Stop()
	for _, b := range l.brokers {
		for !b.ready(ctx, client) {
			select {
			case <-poll.C:
			case <-b.ended:
				return false
			case <-ctx.Done():
				return false
			}
		}
	}
	return true
}

func (b *localBroker) ready(ctx context.Context, client *http.Client) bool {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, b.http+"/readyz", nil)
	if err != nil {
		return false
	}
	answer, err := client.Do(r)
	if err != nil {
		return false
	}
	_ = answer.Body.Close()
	return answer.StatusCode == http.StatusOK
}

// welcome says what there is and what to try next.
func (l *localCluster) welcome(ctx context.Context) {
	var urls, apis []string
	for _, b := range l.brokers {
		urls, apis = append(urls, b.amqp), append(apis, strings.Replace(b.http, "guest:guest@", "", 1))
	}
	l.say("\n%s are ready; Ctrl-C stops them.\n", plural(int64(len(l.brokers)), "broker"))
	for i, b := range l.brokers {
		l.say("   %s   AMQP %s   HTTP %s   pid %d", b.name, b.amqp, apis[i], b.pid.Load())
	}
	last, victim := l.brokers[len(l.brokers)-1], l.leader(ctx)
	me := programName()
	l.say("\nTry in another terminal:\n")
	l.say("   %s publish --declare hello 'first message' --url %s", me, urls[0])
	l.say("   %s consume hello --url %s", me, last.amqp)
	l.say("   %s status --watch --api %s", me, strings.Join(apis, ","))
	if len(l.brokers) > 2 {
		l.say("   kill -9 %d   # %s, which leads the first queue: another takes over", victim.pid.Load(), victim.name)
	}
	l.say("")
}

// leader is the broker that leads the first group of queues.
func (l *localCluster) leader(ctx context.Context) *localBroker {
	first := l.brokers[0]
	a, err := newAPI(first.http)
	if err != nil {
		return first
	}
	defer a.client.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	var v clusterStatus
	if a.get(ctx, "cluster", &v) == nil {
		for _, g := range v.Groups {
			for _, b := range l.brokers {
				if g.Kind == "queues" && b.name == g.Leader {
					return b
				}
			}
		}
	}
	return first
}
