// Strokes of the brush on their way to the server, which keeps the first ones of a result and adds one with each request.
// `failed` is called if no answer comes; `rejected`, with the error message, after strokes that the server refuses are removed.
window.rmbgStrokeSync = ({ failed, rejected }) => {
  const PATIENCE = 30_000; // milliseconds until a request is given up
  const works = new Map(); // result: { result, strokes, undone, sent }
  let request = null, number = 0, sending = null;

  const common = ({ strokes, sent }) => {
    const count = strokes.findIndex((stroke, index) => stroke !== sent[index]);
    return count < 0 ? strokes.length : count;
  };
  const isPending = (work) => work.strokes.length !== work.sent.length || common(work) < work.strokes.length;
  const ask = (message) => new Promise((resolve, reject) => {
    number += 1;
    request = { number, text: JSON.stringify({ number, ...message }), resolve, reject };
    setTimeout(reject, PATIENCE);
    document.querySelector("#retouch-send").click();
  });
  const answered = (text) => {
    try {
      const answer = JSON.parse(text);
      if (answer.number !== request.number) throw new Error("The answer is an earlier one.");
      request.resolve(answer);
    } catch (error) {
      request?.reject(error);
    }
  };
  const send = async (work) => {
    const keep = common(work), added = work.strokes.slice(keep, keep + 1);
    const { strokes, error } = await ask({ result: work.result, keep, stroke: added[0] ?? null });
    if (!error) {
      work.sent = [...work.sent.slice(0, keep), ...added];
      return;
    }
    work.sent = work.sent.slice(0, strokes ?? 0);
    work.strokes = [...work.sent];
    work.undone = [];
    rejected(error);
  };
  const sendAll = async () => {
    try {
      for (let next; (next = [...works.values()].find(isPending)); ) await send(next);
    } catch {
      failed();
    }
  };
  const flush = () => {
    sending ??= sendAll().finally(() => (sending = null));
    return sending;
  };
  // The strokes of a result; `strokes` are those of the server when it is seen first.
  const load = ({ result, strokes }) => {
    if (!works.has(result)) works.set(result, { result, strokes: [...strokes], undone: [], sent: [...strokes] });
    return works.get(result);
  };
  return { load, flush, answered, pending: () => [...works.values()].some(isPending), text: () => request?.text ?? "" };
};
