# bunny (Debian ruby-bunny) against the broker at AMQP_URL.
require 'bunny'

COUNT = 10
NAME = "smoke-bunny-#{Process.pid}"

def check(truth, what)
  raise "bunny: #{what}" unless truth
end

def consume_and_nack(channel, queue)
  # Messages 1 to 9: the first is requeued once, the second dropped.
  channel.prefetch(3)
  seen = Queue.new
  consumer = queue.subscribe(manual_ack: true) do |info, _, body|
    seen << body
    if body == 'message 1' && !info.redelivered?
      channel.nack(info.delivery_tag, false, true)
    elsif body == 'message 2'
      channel.nack(info.delivery_tag, false, false)
    else
      channel.ack(info.delivery_tag)
    end
  end
  bodies = Timeout.timeout(20) { Array.new(COUNT) { seen.pop } }
  consumer.cancel
  check bodies.count('message 1') == 2, "delivered #{bodies}"
end

connection = Bunny.new(ENV.fetch('AMQP_URL'), automatically_recover: false)
connection.start
channel = connection.create_channel
channel.confirm_select

exchange = channel.topic("#{NAME}-exchange", durable: true)
queue = channel.queue(NAME, durable: true, arguments: { 'x-queue-type' => 'quorum' })
queue.bind(exchange, routing_key: 'smoke.#')
COUNT.times do |i|
  exchange.publish("message #{i}", routing_key: 'smoke.a.b', persistent: true, headers: { 'number' => i }, type: 'smoke')
end
check channel.wait_for_confirms, 'publishes were nacked'
check queue.message_count == COUNT, "#{queue.message_count} messages"

info, properties, body = queue.pop(manual_ack: true)
check body == 'message 0' && properties.headers['number'] == 0 && properties.type == 'smoke', "got #{body} #{properties}"
channel.ack(info.delivery_tag)

consume_and_nack(channel, queue)

returned = Queue.new
exchange.on_return { |reply, _, content| returned << [reply.reply_code, reply.reply_text, content] }
exchange.publish('lost', routing_key: 'nowhere', mandatory: true)
check channel.wait_for_confirms, 'an unroutable publish was nacked'
answer = Timeout.timeout(10) { returned.pop }
check answer == [312, 'NO_ROUTE', 'lost'], "returned #{answer}"

begin
  connection.create_channel.queue_declare("#{NAME}-missing", passive: true)
  check false, 'a missing queue was found'
rescue Bunny::NotFound => error
  check error.message.include?("no queue '#{NAME}-missing' in vhost '/'"), error.message
end

check queue.pop.first.nil?, 'the queue is not empty'
check queue.delete.message_count.zero?, 'delete counted messages'
exchange.delete
connection.close
puts "bunny #{Bunny::VERSION}"
