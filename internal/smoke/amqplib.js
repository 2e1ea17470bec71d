// amqplib (npm) against the broker at AMQP_URL. Each step throws when the
// broker doesn't behave as RabbitMQ.
'use strict';
const assert = require('node:assert');
const amqp = require('amqplib');

const queue = `smoke-amqplib-${process.pid}`;
const exchange = `${queue}-exchange`;
const count = 10;

async function main() {
  const conn = await amqp.connect(process.env.AMQP_URL);
  const ch = await conn.createConfirmChannel();

  // Declare, also again with the same arguments.
  await ch.assertExchange(exchange, 'topic', { durable: true });
  const options = { durable: true, arguments: { 'x-queue-type': 'quorum' } };
  await ch.assertQueue(queue, options);
  assert.strictEqual((await ch.assertQueue(queue, options)).messageCount, 0);
  await ch.bindQueue(queue, exchange, 'smoke.*.key');

  // Publish with confirms.
  for (let i = 0; i < count; i++) {
    ch.publish(exchange, 'smoke.a.key', Buffer.from(`message ${i}`), {
      persistent: true, contentType: 'text/plain', messageId: `m${i}`,
      headers: { number: i, nested: { list: [1, 'two', true, null] } },
    });
  }
  await ch.waitForConfirms();
  assert.strictEqual((await ch.checkQueue(queue)).messageCount, count);

  // Get.
  const got = await ch.get(queue);
  assert.strictEqual(got.content.toString(), 'message 0');
  assert.strictEqual(got.fields.messageCount, count - 1);
  assert.deepStrictEqual(got.properties.headers.nested, { list: [1, 'two', true, null] });
  ch.ack(got);

  await consumeAndNack(ch);

  // Return of an unroutable message, before its confirm.
  const order = [];
  ch.on('return', (m) => order.push(`returned ${m.fields.replyCode} ${m.fields.replyText} ${m.content}`));
  await new Promise((resolve, reject) => ch.publish(exchange, 'nowhere', Buffer.from('lost'), { mandatory: true },
    (err) => { order.push('confirmed'); err ? reject(err) : resolve(); }));
  assert.deepStrictEqual(order, ['returned 312 NO_ROUTE lost', 'confirmed']);

  // A channel error closes the channel and not the connection.
  const other = await conn.createChannel();
  other.on('error', () => {});
  await assert.rejects(other.checkQueue(`${queue}-missing`), /404|NOT_FOUND/);

  // Delete.
  assert.strictEqual((await ch.get(queue)), false);
  assert.strictEqual((await ch.deleteQueue(queue)).messageCount, 0);
  await ch.deleteExchange(exchange);
  await ch.close();
  await conn.close();
}

// Messages 1 to 9: the first is requeued once, the second dropped.
async function consumeAndNack(ch) {
  await ch.prefetch(3);
  const seen = [];
  let tag;
  await new Promise((resolve, reject) => {
    ch.consume(queue, (m) => {
      try {
        const text = m.content.toString();
        seen.push(text);
        if (text === 'message 1' && !m.fields.redelivered) ch.nack(m, false, true);
        else if (text === 'message 2') ch.nack(m, false, false);
        else ch.ack(m);
        if (text === `message ${count - 1}`) resolve();
      } catch (err) { reject(err); }
    }).then((ok) => { tag = ok.consumerTag; }, reject);
  });
  await ch.cancel(tag);
  assert.strictEqual(seen.filter((text) => text === 'message 1').length, 2);
  assert.strictEqual(seen.length, count);
}

main().catch((err) => { console.error(err); process.exit(1); });
