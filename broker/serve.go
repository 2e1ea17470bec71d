package broker

import "net"

// startFront begins to accept AMQP connections.
func (b *Broker) startFront() {
	b.front = newFront(b, frontConfig{
		name: b.config.Name, version: Version, copies: b.members.copies, ackQuorum: b.config.AckQuorum,
		maxMessageSize: b.config.MaxMessageSize,
		channelMax:     uint16(b.config.ChannelMax), frameMax: uint32(b.config.FrameMax),
		heartbeat: b.config.Heartbeat, logger: b.logger, doubt: b.doubt,
	})
	for _, l := range []net.Listener{b.amqpListener, b.amqpsListener} {
		if l == nil {
			continue
		}
		b.background.Go(func() {
			if err := b.front.Serve(l); err != nil {
				b.logger.Error("listener ended", "address", l.Addr(), "err", err)
			}
		})
	}
}

// alarmed blocks publishers while there is a reason, and lets them go on when
// it is "".
func (b *Broker) alarmed(reason string) {
	if reason == "" {
		b.logger.Info("alarm cleared: publishers go on")
	} else {
		b.logger.Warn("alarm: publishers are blocked", "reason", reason,
			"memory", b.alarms.usedMemory.Load(), "disk free", b.alarms.freeDisk.Load())
	}
	b.front.block(reason)
}

// urgeCheckpoints has every group write a checkpoint: until then the log keeps
// what is consumed already.
func (b *Broker) urgeCheckpoints() {
	for _, g := range b.groups {
		if g.keep != nil {
			g.call(func() { g.keep.urged = true })
		}
	}
}
