// The fastest peer: fastify, svix and amqplib on Node; persistent, mandatory, confirmed, returns seen.

import amqp from 'amqplib';
import fastify from 'fastify';
import { Webhook } from 'svix';

const webhook = new Webhook(process.env.SIGNING_SECRET);
const connection = await amqp.connect(process.env.AMQP_URL, { noDelay: true });
const channel = await connection.createConfirmChannel();
const returned = new Set();
channel.on('return', (message) => returned.add(message.properties.messageId));

function publish(key, content, messageId) {
  return new Promise((resolve, reject) => {
    const options = { persistent: true, mandatory: true, contentType: 'application/json', messageId };
    channel.publish('usher.events', key, content, options, (error) => {
      if (error || returned.delete(messageId)) reject(error ?? new Error('returned'));
      else resolve();
    });
  });
}

const app = fastify({ logger: false });
app.removeContentTypeParser('application/json');
app.addContentTypeParser('application/json', { parseAs: 'buffer' }, (_request, body, done) => done(null, body));

app.post('/webhooks/clerk', async (request, reply) => {
  let event;
  try {
    webhook.verify(request.body, request.headers);
    event = JSON.parse(request.body);
  } catch {
    return reply.code(401).send();
  }
  const id = request.headers['svix-id'];
  const content = Buffer.from(JSON.stringify({ id, type: event.type, data: event.data }));
  await publish(event.type, content, id);
  return reply.code(202).send();
});

await app.listen({ host: '127.0.0.1', port: Number(process.env.PORT) });
process.on('SIGTERM', () => process.exit(0));
