// Points of a stroke of the brush.
(() => {
  const MAX_POINTS = 250; // as on the server
  // D. Douglas and T. Peucker, 1973; the tolerance grows until few enough points are left.
  const simplified = (points, tolerance) => {
    const kept = new Set([0, points.length / 2 - 1]), spans = [[0, points.length / 2 - 1]];
    while (spans.length) {
      const [first, last] = spans.pop();
      const [ax, ay, bx, by] = [...points.slice(2 * first, 2 * first + 2), ...points.slice(2 * last, 2 * last + 2)];
      const [dx, dy] = [bx - ax, by - ay], squared = dx * dx + dy * dy || 1;
      let farthest = 0, distance = tolerance;
      for (let i = first + 1; i < last; i += 1) {
        const [x, y] = [points[2 * i] - ax, points[2 * i + 1] - ay], t = Math.min(1, Math.max(0, (x * dx + y * dy) / squared));
        const away = Math.hypot(x - t * dx, y - t * dy);
        if (away > distance) [farthest, distance] = [i, away];
      }
      if (!farthest) continue;
      kept.add(farthest);
      spans.push([first, farthest], [farthest, last]);
    }
    if (kept.size > MAX_POINTS) return simplified(points, 2 * tolerance);
    return [...kept].sort((a, b) => a - b).flatMap((i) => points.slice(2 * i, 2 * i + 2));
  };
  window.rmbgStrokePoints = { simplified };
})();
