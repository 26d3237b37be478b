import { mkdirSync } from 'node:fs';
import { dirname } from 'node:path';
import { DatabaseSync, type StatementSync } from 'node:sqlite';
import type { Order } from './shop.ts';

/** Orders stay when the session is over: a database of the application keeps them. */
export class Orders {
  readonly #insert: StatementSync;
  readonly #select: StatementSync;

  constructor(path: string) {
    mkdirSync(dirname(path), { recursive: true });
    const database = new DatabaseSync(path);
    database.exec(`
      pragma journal_mode = wal;
      create table if not exists purchase (id text primary key, user text, items text);
    `);
    this.#insert = database.prepare('insert into purchase (id, user, items) values (?, ?, ?) on conflict do nothing');
    this.#select = database.prepare('select id, items from purchase where user = ? order by rowid');
  }

  /** Takes an order; it is on disk when this returns. Once, however often it is tried. */
  place(user: string, { id, items }: Order): void {
    this.#insert.run(id, user, JSON.stringify(items));
  }

  of(user: string): Order[] {
    return this.#select.all(user).map(({ id, items }) => ({ id: String(id), items: JSON.parse(String(items)) }));
  }
}
