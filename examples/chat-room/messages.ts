import { mkdirSync } from 'node:fs';
import { dirname } from 'node:path';
import { DatabaseSync, type StatementSync } from 'node:sqlite';

export interface Message {
  /** Grows from message to message. */
  readonly number: number;
  /** Given by the sender. */
  readonly id: string;
  readonly name: string;
  readonly text: string;
}

const LONGEST_HISTORY = 200;

/** What was said belongs to the room, not to a visitor's session: a database of the application keeps it. */
export class Messages {
  readonly #insert: StatementSync;
  readonly #find: StatementSync;
  readonly #after: StatementSync;

  constructor(path: string) {
    mkdirSync(dirname(path), { recursive: true });
    const database = new DatabaseSync(path);
    database.exec(`
      pragma journal_mode = wal;
      create table if not exists message (
        number integer primary key, room text, author text, id text, name text, text text, unique (author, id)
      );
      create index if not exists room on message (room, number);
    `);
    this.#insert = database.prepare(
      'insert into message (room, author, id, name, text) values (?, ?, ?, ?, ?) on conflict do nothing',
    );
    this.#find = database.prepare('select number, id, name, text from message where author = ? and id = ?');
    this.#after = database.prepare(`
      select * from (
        select number, id, name, text from message where room = ? and number > ? order by number desc limit ${LONGEST_HISTORY}
      ) order by number
    `);
  }

  /**
   * Keeps a message; it is on disk when this returns. Who did not hear that it was kept may send it again under the same id: it is kept once.
   */
  add(room: string, author: string, { id, name, text }: Omit<Message, 'number'>): { message: Message; isNew: boolean } {
    const { changes } = this.#insert.run(room, author, id, name, text);
    return { message: this.#find.get(author, id) as unknown as Message, isNew: changes === 1 };
  }

  /** The messages of a room behind this number, oldest first. */
  after(room: string, number: number): Message[] {
    return this.#after.all(room, number) as unknown as Message[];
  }
}
