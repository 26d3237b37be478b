import { createServer as createHttpServer } from 'node:http';
import express from 'express';
import { attachSession, attachSocket, loadOrCreateKey, SessionManager } from 'holdfast/session';
import { LmdbLedger, LmdbStore } from 'holdfast/session/lmdb';
import { Server } from 'socket.io';

const sessions = new SessionManager({
  store: new LmdbStore({ path: './data/sessions' }),
  ledger: new LmdbLedger({ path: './data/sessions' }),
  keys: [await loadOrCreateKey('./data')],
});
await sessions.start();

const app = express();

app.use((req, res, next) => {
  attachSession(sessions, req, res, { isSecure: req.secure });
  next();
});

app.get('/', async (req, res) => {
  res.type('text').send(`you are ${(await sessions.open(req)).owner?.name ?? 'a stranger'}\n`);
});

app.post('/sign-in', express.json(), async (req, res) => {
  await sessions.signIn(req, { name: String(req.body.name), roles: [] });
  res.sendStatus(204);
});

app.post('/sign-out', async (req, res) => {
  await (await sessions.get(req))?.invalidate();
  res.sendStatus(204);
});

const http = createHttpServer(app);
const io = new Server(http);

// By polling and by WebSocket alike: a socket holds its session apart from the requests that carry it.
io.use(async (socket, next) => {
  try {
    // A logout in any process, the time limit, or a login: the client comes again with the cookie that it has by then.
    const held = await attachSocket(sessions, socket.request, { onEnd: () => socket.conn.close() });
    if (!held) return next(new Error('sign in first'));
    const release = () => void held.release().catch(console.error);
    if (socket.conn.readyState !== 'open') return release(); // it has gone meanwhile
    socket.conn.once('close', release);
    // A client may leave the namespace and come again over the same connection, as often as it likes.
    socket.once('disconnect', () => {
      socket.conn.off('close', release);
      release();
    });
    socket.onAny(() => held.touch()); // messages are use of the session
    socket.data.session = held.session;
    next();
  } catch (error) {
    next(error as Error); // for example because the store cannot be reached
  }
});

io.on('connection', socket => {
  const { session } = socket.data;
  socket.emit('hello', session.owner?.name ?? 'a stranger');
  socket.on('count', async (answer: (count: number) => void) => {
    answer(await session.update('count', (count: unknown) => Number(count ?? 0) + 1));
  });
});

http.listen(Number(process.env.PORT ?? 8080), () => {
  console.log(`open http://localhost:${(http.address() as { port: number }).port}/`);
});

process.once('SIGTERM', async () => {
  await io.close(); // and the HTTP server with it
  await sessions.close();
});
