package broker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	amqp091 "github.com/rabbitmq/amqp091-go"

	"github.com/mirrormq/mirrormq/internal/amqp"
	"github.com/mirrormq/mirrormq/internal/entry"
	"github.com/mirrormq/mirrormq/queue"
)

func TestBodiesOfAllSizesComeThrough(t *testing.T) {
	_, address := startBroker(t)
	for _, frameMax := range []uint32{4096, 131072} {
		c := openRaw(t, address, rawOptions{frameMax: frameMax})
		c.openChannel(1)
		c.declare("")
		call[*amqp.ConfirmSelectOk](c, &amqp.ConfirmSelect{})
		limit := int(frameMax) - 8
		for i, size := range []int{0, 1, limit - 1, limit, limit + 1, 3 * limit, 64 << 10, 1<<20 + 7, 16 << 20} {
			body := strings.Repeat(string(rune('a'+i)), size)
			b := amqp.AppendMethod(nil, 1, &amqp.BasicPublish{Exchange: "amq.fanout", RoutingKey: "k"})
			if i == 0 {
				call[*amqp.QueueBindOk](c, &amqp.QueueBind{Exchange: "amq.fanout"})
			}
			go c.socket.Write(amqp.AppendContent(b, 1, frameMax, []byte{0, 0}, []byte(body)))
			if ack := receive[*amqp.BasicAck](c, 1); ack.DeliveryTag != uint64(i+1) {
				t.Fatalf("%d bytes: %+v", size, ack)
			}
			if _, _, got := c.get(""); got != body {
				t.Errorf("%d bytes in frames of %d: %d come back", size, frameMax, len(got))
			}
		}
	}
}

func TestChannelsThatInterleaveTheirBodiesDoNotMix(t *testing.T) {
	_, address := startBroker(t, func(c *Config) { c.Groups = 2 })
	c := openRaw(t, address, rawOptions{})
	const channels, parts = 5, 40
	part := func(channel, i int) []byte { return bytes.Repeat([]byte{byte('a' + channel), byte('0' + i%10)}, 500) }
	var b []byte
	for ch := range channels {
		c.openChannel(uint16(ch + 1))
		c.send(uint16(ch+1), &amqp.QueueDeclare{Queue: fmt.Sprint("q", ch), Durable: true})
		receive[*amqp.QueueDeclareOk](c, uint16(ch+1))
		b = amqp.AppendMethod(b, uint16(ch+1), &amqp.BasicPublish{RoutingKey: fmt.Sprint("q", ch)})
		b = amqp.AppendHeader(b, uint16(ch+1), parts*1000, []byte{0, 0})
	}
	for i := range parts {
		for ch := range channels {
			b = amqp.AppendFrame(b, amqp.FrameBody, uint16(ch+1), part(ch, i))
		}
	}
	c.write(b)
	for ch := range channels {
		var want []byte
		for i := range parts {
			want = append(want, part(ch, i)...)
		}
		if _, _, got := c.get(fmt.Sprint("q", ch)); got != string(want) {
			t.Errorf("channel %d: %d bytes that differ", ch+1, len(got))
		}
	}
}

func TestPublishToQueuesOfSeveralGroupsIsConfirmedOnce(t *testing.T) {
	_, address := startBroker(t, func(c *Config) { c.Groups = 4 })
	c := openChannelRaw(t, address)
	call[*amqp.ExchangeDeclareOk](c, &amqp.ExchangeDeclare{Exchange: "x", Type: "fanout", AutoDelete: true})
	const queues, messages = 12, 50
	for i := range queues {
		name := fmt.Sprint("q", i)
		change := durableQueue
		if i == 0 {
			change = func(*amqp.QueueDeclare) {} // One in memory.
		}
		c.declare(name, change)
		call[*amqp.QueueBindOk](c, &amqp.QueueBind{Queue: name, Exchange: "x"})
	}
	call[*amqp.ConfirmSelectOk](c, &amqp.ConfirmSelect{})
	for i := range messages {
		c.publish("x", "", fmt.Sprint(i))
	}
	confirmed := make(map[uint64]bool)
	for len(confirmed) < messages {
		ack := receive[*amqp.BasicAck](c, 1)
		if confirmed[ack.DeliveryTag] {
			t.Fatalf("%+v came twice", ack)
		}
		for tag := uint64(1); tag <= ack.DeliveryTag; tag++ {
			if tag == ack.DeliveryTag || ack.Multiple {
				confirmed[tag] = true
			}
		}
	}
	c.silent()
	for i := range queues {
		for j := range messages {
			if _, _, body := c.get(fmt.Sprint("q", i)); body != fmt.Sprint(j) {
				t.Fatalf("queue %d: %q, want %d", i, body, j)
			}
		}
	}
}

func TestClosedChannelGivesBackWhatItHeld(t *testing.T) {
	_, address := startBroker(t)
	c, other := openChannelRaw(t, address), openChannelRaw(t, address)
	c.declare("q", durableQueue)
	for i := range 5 {
		c.publish("", "q", fmt.Sprint(i))
	}
	call[*amqp.BasicConsumeOk](c, &amqp.BasicConsume{Queue: "q"})
	for range 5 {
		c.delivery()
	}
	c.send(1, &amqp.BasicAck{DeliveryTag: 2})
	call[*amqp.ChannelCloseOk](c, &amqp.ChannelClose{})
	for _, want := range []string{"0", "2", "3", "4"} {
		ok, _, body := other.get("q")
		if body != want || !ok.Redelivered {
			t.Errorf("got %q, redelivered %v, want %q", body, ok.Redelivered, want)
		}
	}
	call[*amqp.BasicGetEmpty](other, &amqp.BasicGet{Queue: "q"})
}

func TestFailedChannelAndLostConnectionGiveBackToo(t *testing.T) {
	_, address := startBroker(t)
	other := openChannelRaw(t, address)
	other.declare("q", durableQueue)
	other.publish("", "q", "body")
	call[*amqp.BasicConsumeOk](other, &amqp.BasicConsume{Queue: "q"})
	first, _ := other.delivery()
	for name, end := range map[string]func(*rawClient){
		"a channel error":    func(c *rawClient) { c.send(1, &amqp.BasicAck{DeliveryTag: 99}) },
		"a connection error": func(c *rawClient) { c.send(1, &amqp.ChannelOpen{}) },
		"a lost connection":  func(c *rawClient) { c.socket.Close() },
	} {
		c := openChannelRaw(t, address)
		c.send(1, &amqp.BasicConsume{Queue: "q"})
		receive[*amqp.BasicConsumeOk](c, 1)
		// Hand it over: the other consumer is gone before it is requeued.
		call[*amqp.ChannelCloseOk](other, &amqp.ChannelClose{})
		if d, body := c.delivery(); body != "body" || !d.Redelivered {
			t.Errorf("%s: %q, %+v after %+v", name, body, d, first)
		}
		other.openChannel(1)
		call[*amqp.BasicConsumeOk](other, &amqp.BasicConsume{Queue: "q"})
		end(c)
		if d, body := other.delivery(); body != "body" || !d.Redelivered {
			t.Errorf("%s: %q, %+v", name, body, d)
		}
	}
}

// callOrder is a group that notes in which order it is told of acks and of a
// holder's end.
type callOrder struct {
	queueGroup
	calls chan string
}

func (g callOrder) submit(s *submission) {
	if len(s.settled) > 0 {
		g.calls <- "settled"
	}
	g.queueGroup.submit(s)
}

func (g callOrder) closeHolder(h queue.HolderID, done func()) {
	g.calls <- "closed"
	g.queueGroup.closeHolder(h, done)
}

func TestAcksBeforeAChannelErrorCount(t *testing.T) {
	f, address := serveFront(t, memoryBroker(t, 1))
	calls := make(chan string, 16)
	group := f.group
	f.group = func(id groupID) queueGroup { return callOrder{group(id), calls} }
	for name, second := range map[string]amqp.Method{
		"a double ack":        &amqp.BasicAck{DeliveryTag: 1},
		"an unknown exchange": &amqp.BasicPublish{Exchange: "missing"},
		"a missing queue":     &amqp.BasicConsume{Queue: "missing"},
	} {
		c := openChannelRaw(t, address)
		c.declare("q" + c.socket.LocalAddr().String())
		c.publish("", "q"+c.socket.LocalAddr().String(), "body")
		c.get("")
		// Both in one read: the error must not overtake the ack.
		c.send(1, &amqp.BasicAck{DeliveryTag: 1}, second)
		receive[*amqp.ChannelClose](c, 1)
		if first := <-calls; first != "settled" {
			t.Errorf("%s: the channel's end came before its ack", name)
		}
		c.send(1, &amqp.ChannelCloseOk{})
		<-calls // The other of the two.
	}
}

func TestCancelOkComesAfterTheLastDelivery(t *testing.T) {
	_, address := startBroker(t)
	p := openChannelRaw(t, address)
	p.declare("q", durableQueue)
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		b := amqp.AppendMethod(nil, 1, &amqp.BasicPublish{RoutingKey: "q"})
		b = amqp.AppendContent(b, 1, 4096, []byte{0, 0}, []byte("body"))
		for {
			select {
			case <-stop:
				return
			default:
				p.socket.Write(b)
			}
		}
	}()
	c := openChannelRaw(t, address)
	var last uint64
	for range 20 {
		c.send(1, &amqp.BasicConsume{Queue: "q", ConsumerTag: "t"})
		receive[*amqp.BasicConsumeOk](c, 1)
		for range 10 {
			d, _ := c.delivery()
			if d.DeliveryTag != last+1 {
				t.Fatalf("tag %d after %d", d.DeliveryTag, last)
			}
			last = d.DeliveryTag
		}
		c.send(1, &amqp.BasicCancel{ConsumerTag: "t"})
		for cancelled := false; !cancelled; {
			switch _, m := c.method(); m := m.(type) {
			case *amqp.BasicDeliver:
				c.content()
				last = m.DeliveryTag
			case *amqp.BasicCancelOk:
				cancelled = true
			default:
				t.Fatalf("%T", m)
			}
		}
		c.silent()
		c.send(1, &amqp.BasicAck{DeliveryTag: last, Multiple: true})
	}
	close(stop)
	<-done
}

func TestTransactions(t *testing.T) {
	_, address := startBroker(t, func(c *Config) { c.Groups = 2 })
	c, other := openChannelRaw(t, address), openChannelRaw(t, address)
	c.declare("in", durableQueue)
	c.declare("out", durableQueue)
	for i := range 4 {
		c.publish("", "in", fmt.Sprint(i))
	}
	call[*amqp.TxSelectOk](c, &amqp.TxSelect{})
	held := func() (tags []uint64) {
		for range 4 {
			ok, _, _ := c.get("in")
			tags = append(tags, ok.DeliveryTag)
		}
		return tags
	}
	tags := held()
	c.publish("", "out", "rolled back")
	c.publish("", "nowhere", "rolled back", mandatory)
	c.send(1, &amqp.BasicAck{DeliveryTag: tags[3], Multiple: true})
	call[*amqp.TxRollbackOk](c, &amqp.TxRollback{})
	call[*amqp.BasicGetEmpty](other, &amqp.BasicGet{Queue: "out"})

	// The acks are undone: the same deliveries can be acked again.
	c.publish("", "out", "a")
	c.publish("", "nowhere", "returned", mandatory)
	c.publish("", "out", strings.Repeat("b", 300_000))
	c.send(1, &amqp.BasicAck{DeliveryTag: tags[0]}, &amqp.BasicReject{DeliveryTag: tags[1], Requeue: true},
		&amqp.BasicNack{DeliveryTag: tags[3], Multiple: true})
	call[*amqp.BasicGetEmpty](other, &amqp.BasicGet{Queue: "out"})
	call[*amqp.BasicGetEmpty](other, &amqp.BasicGet{Queue: "in"})
	c.send(1, &amqp.TxCommit{})
	if r := receive[*amqp.BasicReturn](c, 1); r.RoutingKey != "nowhere" {
		t.Errorf("%+v", r)
	}
	c.content()
	receive[*amqp.TxCommitOk](c, 1)
	for _, want := range []int{1, 300_000} {
		if _, _, body := other.get("out"); len(body) != want {
			t.Errorf("%d bytes, want %d", len(body), want)
		}
	}
	if ok, _, body := other.get("in"); body != "1" || !ok.Redelivered {
		t.Errorf("%q came back", body)
	}
	call[*amqp.BasicGetEmpty](other, &amqp.BasicGet{Queue: "in"})
	call[*amqp.TxCommitOk](c, &amqp.TxCommit{})
}

func TestClientThatDoesNotReadCostsBoundedMemory(t *testing.T) {
	_, address := startBroker(t)
	for name, do := range map[string]func(*rawClient){
		"its deliveries": func(c *rawClient) {
			c.declare("big", durableQueue)
			for range 20 {
				c.publish("", "big", strings.Repeat("x", 1<<20))
			}
			c.send(1, &amqp.BasicConsume{Queue: "big", NoAck: true})
		},
		"its returns": func(c *rawClient) {
			b := amqp.AppendMethod(nil, 1, &amqp.BasicPublish{RoutingKey: "nowhere", Mandatory: true})
			b = amqp.AppendContent(b, 1, 4096, []byte{0, 0}, make([]byte, 4000))
			b = bytes.Repeat(b, 256)
			// 200 MB, if the broker read them all.
			c.socket.SetWriteDeadline(time.Now().Add(2 * time.Second))
			for range 200 {
				if _, err := c.socket.Write(b); err != nil {
					return
				}
			}
			t.Error("everything was read")
		},
	} {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		c := openChannelRaw(t, address)
		do(c)
		runtime.GC()
		runtime.ReadMemStats(&after)
		if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 80<<20 {
			t.Errorf("a client that does not read %s costs %d MiB", name, grown>>20)
		}
		c.socket.Close()
	}
}

func TestPublisherIsHeldBackByItsGroup(t *testing.T) {
	b := memoryBroker(t, 1)
	f, address := serveFront(t, b)
	stuck := &stuckGroup{}
	real := f.group
	f.group = func(id groupID) queueGroup {
		if g := real(id); g != nil {
			return stuckOver{g, stuck}
		}
		return nil
	}
	c := openChannelRaw(t, address)
	c.declare("q", durableQueue)
	body := strings.Repeat("x", 100_000)
	m := amqp.AppendMethod(nil, 1, &amqp.BasicPublish{RoutingKey: "q"})
	m = amqp.AppendContent(m, 1, 131072, []byte{0, 0}, []byte(body))
	c.socket.SetWriteDeadline(time.Now().Add(time.Second))
	for range 1000 { // 100 MB
		if _, err := c.socket.Write(m); err != nil {
			break
		}
	}
	if n := stuck.bytes.Load(); n > maxInFlightBytes+1<<20 {
		t.Errorf("%d bytes are on their way", n)
	}
	c.socket.Close()
}

func TestStopTellsClientsAndWaitsForThem(t *testing.T) {
	b := memoryBroker(t, 1)
	f, address := serveFront(t, b)
	polite, err := amqp091.Dial("amqp://guest:guest@" + address + "/")
	if err != nil {
		t.Fatal(err)
	}
	told := polite.NotifyClose(make(chan *amqp091.Error, 1))
	rude := openChannelRaw(t, address) // never answers
	strange := dialRaw(t, address)     // never says a word
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	f.Stop(ctx, "shutdown")
	if e := <-told; e == nil || e.Code != 320 || e.Reason != "CONNECTION_FORCED - shutdown" {
		t.Errorf("told %v", e)
	}
	if m := receive[*amqp.ConnectionClose](rude, 0); m.ReplyCode != 320 {
		t.Errorf("told %+v", m)
	}
	rude.ended()
	strange.ended()
	if _, err := net.Dial("tcp", address); err == nil {
		t.Error("the port is still open")
	}
	if n := f.connections.count(); n != 0 {
		t.Errorf("%d connections are left", n)
	}
	f.Stop(ctx, "again")
}

func TestConnectionsAreListedAndCanBeClosed(t *testing.T) {
	b := memoryBroker(t, 1)
	f, address := serveFront(t, b)
	c := openChannelRaw(t, address)
	c.declare("q", durableQueue)
	call[*amqp.BasicQosOk](c, &amqp.BasicQos{PrefetchCount: 7})
	call[*amqp.BasicConsumeOk](c, &amqp.BasicConsume{Queue: "q", ConsumerTag: "t"})
	name := c.socket.LocalAddr().String() + " -> " + address
	list := f.listConnections()
	if len(list) != 1 || list[0].Name != name || list[0].User != "guest" || list[0].Vhost != "/" ||
		list[0].State != "running" || list[0].Channels != 1 || list[0].BytesIn == 0 || list[0].BytesOut == 0 {
		t.Errorf("%+v", list)
	}
	channels := f.listChannels()
	if len(channels) != 1 || channels[0].Name != name+" (1)" || channels[0].Consumers != 1 || channels[0].Prefetch != 7 {
		t.Errorf("%+v", channels)
	}
	if got := f.ownerName(f.connections.list()[0].id); got != name {
		t.Errorf("owner %q", got)
	}
	consumers := f.consumersOf(b.findQueue("/", "q").ID)
	if len(consumers) != 1 || consumers[0].Tag != "t" || consumers[0].Connection != name || consumers[0].Prefetch != 7 {
		t.Errorf("%+v", consumers)
	}
	if f.connections.close("nobody", "x") {
		t.Error("nobody was closed")
	}
	if !f.connections.close(name, "by an administrator") {
		t.Error("it was not closed")
	}
	c.connectionError(320, "CONNECTION_FORCED - by an administrator")
}

func TestConnectionLimit(t *testing.T) {
	_, address := serveFront(t, memoryBroker(t, 1), func(c *frontConfig) { c.maxConnections = 1 })
	openRaw(t, address, rawOptions{})
	c := dialRaw(t, address)
	c.login(rawOptions{})
	receive[*amqp.ConnectionTune](c, 0)
	c.send(0, &amqp.ConnectionTuneOk{}, &amqp.ConnectionOpen{VirtualHost: "/"})
	m := receive[*amqp.ConnectionClose](c, 0)
	if m.ReplyCode != 530 || !strings.HasSuffix(m.ReplyText, "connection limit (1) is reached") {
		t.Errorf("%+v", m)
	}
}

func TestPrefetchSharedAcrossGroups(t *testing.T) {
	_, address := startBroker(t, func(c *Config) { c.Groups = 4 })
	c := openChannelRaw(t, address)
	call[*amqp.BasicQosOk](c, &amqp.BasicQos{PrefetchCount: 3, Global: true})
	const queues = 8
	for i := range queues {
		c.declare(fmt.Sprint("q", i), durableQueue)
		for range 4 {
			c.publish("", fmt.Sprint("q", i), "body")
		}
	}
	var got []uint64
	for i := range queues {
		c.send(1, &amqp.BasicConsume{Queue: fmt.Sprint("q", i)})
		for waiting := true; waiting; {
			switch _, m := c.method(); m := m.(type) {
			case *amqp.BasicDeliver:
				c.content()
				got = append(got, m.DeliveryTag)
			case *amqp.BasicConsumeOk:
				waiting = false
			}
		}
	}
	for len(got) < 3 {
		d, _ := c.delivery()
		got = append(got, d.DeliveryTag)
	}
	c.silent()
	for len(got) < 4*queues {
		c.send(1, &amqp.BasicAck{DeliveryTag: got[len(got)-3]})
		d, _ := c.delivery()
		got = append(got, d.DeliveryTag)
		c.silent()
	}
	if !slices.IsSorted(got) {
		t.Errorf("%v", got)
	}
}

// damagedContents are bodies whose disk has gone bad.
type damagedContents struct{}

func (damagedContents) content(entry.GroupID, entry.Ref) (entry.Content, error) {
	return entry.Content{}, errors.New("checksum does not match")
}

func (damagedContents) expect([]delivery) {}

func (damagedContents) rest() {}

func TestClientIsToldOfAMessageThatCannotBeRead(t *testing.T) {
	f, address := serveFront(t, memoryBroker(t, 1))
	f.contents = func(context.Context) contents { return damagedContents{} }
	for name, ask := range map[string]amqp.Method{
		"get": &amqp.BasicGet{Queue: "q"}, "consume": &amqp.BasicConsume{Queue: "q", NoWait: true},
	} {
		c := openChannelRaw(t, address)
		c.declare("q", durableQueue)
		c.publish("", "q", "body")
		c.send(1, ask)
		m := receive[*amqp.ConnectionClose](c, 0)
		if want := "INTERNAL_ERROR - a message of queue 'q' in vhost '/' can't be read"; m.ReplyCode != 541 || m.ReplyText != want {
			t.Errorf("%s: %d %q, want %q", name, m.ReplyCode, m.ReplyText, want)
		}
		c.send(0, &amqp.ConnectionCloseOk{})
		c.ended()
		other := openChannelRaw(t, address)
		if ok := call[*amqp.QueueDeleteOk](other, &amqp.QueueDelete{Queue: "q"}); ok.MessageCount != 1 {
			t.Errorf("%s: %d messages are left", name, ok.MessageCount)
		}
	}
}
