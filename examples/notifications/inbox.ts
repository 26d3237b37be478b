import { mkdirSync } from 'node:fs';
import { dirname } from 'node:path';
import { DatabaseSync, type StatementSync } from 'node:sqlite';

export interface Notification {
  /** Grows from one to the next. */
  readonly number: number;
  readonly sender: string;
  readonly text: string;
}

/** Notifications belong to a user, who may have many sessions or none: a database of the application keeps them. */
export class Inbox {
  readonly #insert: StatementSync;
  readonly #unread: StatementSync;
  readonly #markRead: StatementSync;

  constructor(path: string) {
    mkdirSync(dirname(path), { recursive: true });
    const database = new DatabaseSync(path);
    database.exec(`
      pragma journal_mode = wal;
      create table if not exists notification (
        number integer primary key, user text, sender text, text text, isRead integer default 0
      );
      create index if not exists unread on notification (user, number) where not isRead;
    `);
    this.#insert = database.prepare('insert into notification (user, sender, text) values (?, ?, ?)');
    this.#unread = database.prepare(
      'select number, sender, text from notification where user = ? and not isRead order by number',
    );
    this.#markRead = database.prepare(
      'update notification set isRead = 1 where user = ? and number <= ? and not isRead',
    );
  }

  /** It is on disk when this returns. */
  add(user: string, sender: string, text: string): Notification {
    const { lastInsertRowid } = this.#insert.run(user, sender, text);
    return { number: Number(lastInsertRowid), sender, text };
  }

  unread(user: string): Notification[] {
    return this.#unread.all(user) as unknown as Notification[];
  }

  markRead(user: string, upTo: number): void {
    this.#markRead.run(user, upTo);
  }
}
