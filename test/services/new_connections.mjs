// Opens one connection after the other, in several rows at a time, until its standard input ends: then it prints how many
// were answered, by which processes, and how many failed. Arguments: a URL that answers with the pid of its server.
import { request } from 'node:http';

const [url] = process.argv.slice(2);
const pids = new Set();
const failures = [];
let answered = 0;
let isOver = false;
process.stdin.on('end', () => (isOver = true)).resume();

const ask = () =>
  new Promise((resolve, reject) => {
    request(url, { agent: false }, response => {
      let text = '';
      if (response.statusCode !== 200) reject(new Error(`status ${response.statusCode}`));
      response
        .setEncoding('utf8')
        .on('data', chunk => (text += chunk))
        .on('end', () => resolve(text))
        .on('error', reject);
    })
      .on('error', reject)
      .end();
  });

async function row() {
  while (!isOver) {
    try {
      pids.add(await ask());
      if (answered++ === 0) console.log('answered');
    } catch (error) {
      failures.push(error.message);
    }
  }
}

await Promise.all(Array.from({ length: 8 }, row));
console.log(JSON.stringify({ answered, pids: [...pids], failures }));
