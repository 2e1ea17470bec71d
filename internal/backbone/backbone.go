package backbone

import "context"

// Backbone is one broker's connection to all others.
type Backbone struct{}

// Start brings up the embedded server, or connects to the external ones, and
// returns; peers come up in their own time (Handler.PeerUp).
func Start(config Config) (*Backbone, error) { return &Backbone{}, nil }

// Send hands a datagram to the peer's backbone, or loses it.
func (b *Backbone) Send(c Class, to string, payload []byte) error { return nil }

// Broadcast is Send to every peer, with one publish.
func (b *Backbone) Broadcast(c Class, payload []byte) error { return nil }

// SendLink appends one message, the payload's pieces joined, to the links of
// several peers. The pieces are copied before it returns.
func (b *Backbone) SendLink(c Class, to []string, payload ...[]byte) error { return nil }

// Writable is true when SendLink would take a message of that size now.
func (b *Backbone) Writable(c Class, to string, size int) bool { return true }

// Consumed gives back credit: the owner has taken bytes of messages.
func (b *Backbone) Consumed(c Class, from string, bytes int) {}

// Reopen lets a held link take messages again (Config.HoldBroken).
func (b *Backbone) Reopen(c Class, to string) {}

// Leave announces a planned stop and waits until the living peers know.
func (b *Backbone) Leave(ctx context.Context) error { return nil }

// Close stops everything and waits. No handler runs after it has returned.
func (b *Backbone) Close() error { return nil }
