// The page of the demo, in plain JavaScript. It uses the browser's WebSocket and nothing else: what it takes to come back after a
// lost connection is the class below.

const CLOSED_BY_POLICY = 1008; // what Holdfast closes with when the session ends
const FIRST_DELAY_MS = 250;
const LONGEST_DELAY_MS = 4_000;

/** A WebSocket that comes back by itself: after a random part of a delay that doubles, so that not everybody returns at once. */
class ReconnectingSocket {
  #url;
  #events;
  #socket;
  #timer;
  #attempt = 0;

  constructor(path, events) {
    this.#url = new URL(path, location.href.replace(/^http/, 'ws'));
    this.#events = events;
    addEventListener('online', this.#now);
    document.addEventListener('visibilitychange', this.#now);
    this.#connect();
  }

  send(text) {
    if (this.#socket?.readyState !== WebSocket.OPEN) return false;
    this.#socket.send(text);
    return true;
  }

  close() {
    clearTimeout(this.#timer);
    removeEventListener('online', this.#now);
    document.removeEventListener('visibilitychange', this.#now);
    const socket = this.#socket;
    this.#socket = undefined;
    socket?.close();
  }

  #connect() {
    const socket = new WebSocket(this.#url);
    this.#socket = socket;
    this.#timer = undefined;
    let wasOpen = false;
    socket.onopen = () => {
      wasOpen = true;
      this.#attempt = 0;
      this.#events.onOpen();
    };
    socket.onmessage = event => this.#events.onMessage(JSON.parse(event.data));
    socket.onclose = async event => {
      if (this.#socket !== socket) return; // closed by us
      this.#socket = undefined;
      if (await this.#events.isOver(event.code, wasOpen)) return this.close();
      const delayMs = Math.random() * Math.min(LONGEST_DELAY_MS, FIRST_DELAY_MS * 2 ** this.#attempt++);
      this.#events.onLost(event.code, delayMs, wasOpen);
      this.#timer = setTimeout(() => this.#connect(), delayMs);
    };
  }

  // The network is back, or somebody looks at the tab again: no reason to wait any longer.
  #now = () => {
    if (this.#timer === undefined || document.hidden) return;
    clearTimeout(this.#timer);
    this.#connect();
  };
}

const byId = id => document.getElementById(id);
const otherTabs = new BroadcastChannel('holdfast-demo');
let socket;
let backendSocket;
let me;
let reconnects = 0;

// Who we are

async function load() {
  const answer = await ask('GET', 'me').catch(() => undefined);
  if (!answer) {
    // The server is not there (yet): the next try is as cheap as this one.
    setState('reconnecting', 'waiting for the server');
    setTimeout(load, 1_000);
  } else if (answer.name) {
    enter(answer);
  } else {
    leave('');
  }
}

function enter(answer) {
  me = answer;
  byId('name').textContent = me.name;
  byId('session').textContent = `${me.session}…`;
  byId('signed-out-notice').hidden = true;
  show(true);
  join();
  watchBackend();
  void askBackend();
}

function leave(notice) {
  me = undefined; // the server closes the sockets
  byId('session').textContent = 'none';
  byId('signed-out-notice').textContent = notice;
  byId('signed-out-notice').hidden = notice === '';
  setState('signed-out', 'signed out');
  show(false);
  byId('name-field').focus();
}

function show(isSignedIn) {
  byId('sign-in-card').hidden = isSignedIn;
  byId('application').hidden = !isSignedIn;
  byId('who').hidden = !isSignedIn;
}

async function signIn(event) {
  event.preventDefault();
  const answer = await ask('POST', 'signin', { name: byId('name-field').value }).catch(error => error);
  byId('sign-in-error').textContent = answer instanceof Error ? answer.message : '';
  if (answer instanceof Error) return;
  byId('events').replaceChildren();
  setReconnects(0);
  enter(answer);
  otherTabs.postMessage('signed in');
}

async function signOut() {
  // Nothing else to do here: the server ends the session, and with it the socket of this tab and of every other one.
  await ask('POST', 'signout').catch(error => happened(`could not sign out: ${error.message}`));
}

// The chat

function room() {
  return decodeURIComponent(location.hash.slice(1)) || 'lobby';
}

function join() {
  socket?.close();
  for (const link of byId('rooms').children) {
    if (link.hash === `#${room()}`) link.setAttribute('aria-current', 'page');
    else link.removeAttribute('aria-current');
  }
  setState('connecting', 'connecting');
  let isFirst = true;
  socket = new ReconnectingSocket(`chat/${encodeURIComponent(room())}`, {
    onOpen() {
      setState('connected', 'connected');
      happened(isFirst ? `connected to ${room()}` : 'connected again, same session');
      if (!isFirst) setReconnects(reconnects + 1);
      isFirst = false;
    },
    onMessage(message) {
      if (message.type === 'welcome') showMessages(message.history);
      else if (message.type === 'message') addMessage(message);
      if (message.roster) showRoster(message.roster);
    },
    isOver,
    onLost(code, delayMs, wasOpen) {
      setState('reconnecting', 'reconnecting');
      if (wasOpen) happened(`lost (${code}); next try in ${Math.round(delayMs)} ms`);
    },
  });
}

/** Is there no reason to come back? Ends what this tab shows if the session is over. */
async function isOver(code, wasOpen) {
  // A refused handshake does not tell the page why: ask whether there still is a session.
  const isSignedOut = code === CLOSED_BY_POLICY || (!wasOpen && (await isUnknown()));
  if (isSignedOut && me) leave('You were signed out: the session ended, and its sockets closed with it.');
  return isSignedOut;
}

async function isUnknown() {
  const answer = await ask('GET', 'me').catch(() => undefined);
  return answer !== undefined && !answer.name;
}

function send(event) {
  event.preventDefault();
  const field = byId('message-field');
  const text = field.value.trim();
  // While there is no connection the text stays in the field.
  if (text && socket?.send(JSON.stringify({ type: 'message', text }))) field.value = '';
}

function showMessages(messages) {
  byId('messages').replaceChildren();
  for (const message of messages) addMessage(message);
}

function addMessage({ name, text, at }) {
  const meta = element('div', { className: 'meta' }, element('strong', {}, name), time(at));
  const list = byId('messages');
  list.append(element('li', {}, meta, element('div', {}, text)));
  list.scrollTop = list.scrollHeight;
}

function showRoster(names) {
  byId('roster-count').textContent = `${names.length} here:`;
  byId('roster').textContent = names.join(', ');
}

// The connection

async function cut() {
  await ask('POST', 'cut').catch(error => happened(`could not cut: ${error.message}`));
}

function setState(state, text) {
  document.body.dataset.state = state;
  byId('connection').textContent = text;
}

function setReconnects(count) {
  reconnects = count;
  byId('reconnects').textContent = count;
  byId('reconnects-unit').textContent = count === 1 ? 'time' : 'times';
}

function happened(text) {
  const list = byId('events');
  list.append(element('li', {}, time(Date.now()), element('span', {}, text)));
  list.scrollTop = list.scrollHeight;
}

// The backend

function watchBackend() {
  backendSocket?.close();
  backendSocket = new ReconnectingSocket('backend/live', {
    onOpen() {
      byId('backend-error').textContent = '';
    },
    onMessage: ({ session, pid, uptimeSeconds }) => {
      byId('backend-session').textContent = session ?? 'not sent';
      byId('backend-pid').textContent = pid;
      byId('backend-live').textContent = `open, up ${uptimeSeconds} s`;
    },
    isOver,
    onLost(code) {
      byId('backend-live').textContent = `lost (${code})`;
    },
  });
}

async function askBackend() {
  const facts = await ask('GET', 'backend/facts').catch(error => error);
  if (facts instanceof Error) {
    byId('backend-error').textContent = `no answer: ${facts.message}`;
    return;
  }
  byId('backend-error').textContent = '';
  byId('backend-session').textContent = facts.session ?? 'not sent';
  byId('backend-pid').textContent = facts.pid;
  byId('backend-requests').textContent = `${facts.requestsOfSession} of this session, ${facts.requests} in all`;
}

async function killBackend() {
  await ask('POST', 'kill-backend').catch(() => {});
  await askBackend(); // refused now; its socket comes back within a second
}

// Small things

async function ask(method, path, body) {
  const response = await fetch(path, { method, body: body && JSON.stringify(body) });
  if (!response.ok) throw new Error((await response.text()) || `${response.status} ${response.statusText}`);
  return response.status === 204 ? undefined : response.json();
}

function element(name, properties, ...children) {
  const node = Object.assign(document.createElement(name), properties);
  node.append(...children);
  return node;
}

function time(ms) {
  const date = new Date(ms);
  return element('time', { dateTime: date.toISOString() }, date.toLocaleTimeString());
}

byId('sign-in').addEventListener('submit', signIn);
byId('sign-out').addEventListener('click', signOut);
byId('compose').addEventListener('submit', send);
byId('cut').addEventListener('click', cut);
byId('ask-backend').addEventListener('click', askBackend);
byId('kill-backend').addEventListener('click', killBackend);
addEventListener('hashchange', () => me && join());
otherTabs.addEventListener('message', () => me || load());

await load();
