"use strict";
// The frame slider, the charts and the 3D view. The page defines FRAMES and SCENE before this script
// (see scene_data.py).

const $ = (id) => document.getElementById(id);

function bytes(text) {
  const raw = atob(text), out = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; ++i) out[i] = raw.charCodeAt(i);
  return out;
}

// Column-major 4x4 matrices, as WebGL wants them.
function product(a, b) {
  const c = new Float32Array(16);
  for (let i = 0; i < 4; ++i)
    for (let j = 0; j < 4; ++j) {
      let sum = 0;
      for (let k = 0; k < 4; ++k) sum += a[k * 4 + j] * b[i * 4 + k];
      c[i * 4 + j] = sum;
    }
  return c;
}

function perspective(fovy, aspect, near, far) {
  const f = 1 / Math.tan(fovy / 2), d = 1 / (near - far);
  return new Float32Array(
    [f / aspect, 0, 0, 0, 0, f, 0, 0, 0, 0, (near + far) * d, -1, 0, 0, 2 * near * far * d, 0]);
}

const VERTEX = `#version 300 es
uniform mat4 clip, place;
uniform float size, unit;
in vec3 position;
in vec3 paint;  // of a mesh: its normal
out vec3 world, colour, normal;
void main() {
  vec4 p = place * vec4(position * unit, 1.0);
  world = p.xyz;
  colour = paint;
  normal = mat3(place) * paint;
  gl_Position = clip * p;
  gl_PointSize = size / gl_Position.w;
}`;

const FRAGMENT = `#version 300 es
precision highp float;
uniform vec3 eye, tint;
uniform float shaded;
in vec3 world, colour, normal;
out vec4 shown;
void main() {
  if (shaded < 0.5) {
    shown = vec4(colour * tint, 1.0);
    return;
  }
  vec3 n = normalize(normal), view = normalize(eye - world);
  vec3 sun = normalize(vec3(0.4, -0.5, 0.8));
  float sky = 0.5 + 0.5 * n.z, lamp = max(dot(n, sun), 0.0);
  float rim = pow(1.0 - max(dot(n, view), 0.0), 3.0);
  float gleam = pow(max(dot(n, normalize(sun + view)), 0.0), 40.0);
  shown = vec4(tint * (0.28 + 0.38 * sky + 0.5 * lamp) + 0.14 * rim + 0.12 * gleam, 1.0);
}`;

// Unit normals of vertices, the mean of those of the faces around, weighted by area.
function normals(vertices, faces) {
  const sum = new Float32Array(vertices.length);
  for (let f = 0; f < faces.length; f += 3) {
    const [a, b, c] = [3 * faces[f], 3 * faces[f + 1], 3 * faces[f + 2]];
    const [ux, uy, uz] = [0, 1, 2].map((k) => vertices[b + k] - vertices[a + k]);
    const [vx, vy, vz] = [0, 1, 2].map((k) => vertices[c + k] - vertices[a + k]);
    const n = [uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx];
    for (const corner of [a, b, c]) for (let k = 0; k < 3; ++k) sum[corner + k] += n[k];
  }
  for (let i = 0; i < sum.length; i += 3) {
    const length = Math.hypot(sum[i], sum[i + 1], sum[i + 2]) || 1;
    for (let k = 0; k < 3; ++k) sum[i + k] /= length;
  }
  return sum;
}

class View {
  constructor(canvas, scene) {
    this.canvas = canvas;
    this.scene = scene;
    const gl = this.gl = canvas.getContext("webgl2", { antialias: true });
    if (!gl) throw new Error("this browser has no WebGL 2");
    this.program = this.link();
    this.uniform = (name) => gl.getUniformLocation(this.program, name);
    this.clouds = scene.clouds.map((c) => ({ ...c, ...this.points(c.points, c.colours, c.count) }));
    this.meshes = scene.meshes.map((m) => this.surface(m));
    this.truths = scene.truths.map((t) => this.points(t.points, null, t.count));
    this.lines = this.frustum();
    this.grid = this.gridLines();
    this.reset();
    this.listen();
    new ResizeObserver(() => this.draw()).observe(canvas);
  }

  link() {
    const gl = this.gl, program = gl.createProgram();
    for (const [kind, text] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, text);
      gl.compileShader(shader);
      gl.attachShader(program, shader);
    }
    gl.bindAttribLocation(program, 0, "position");
    gl.bindAttribLocation(program, 1, "paint");
    gl.linkProgram(program);
    if (!gl.getProgramParameter(program, gl.LINK_STATUS)) throw new Error(gl.getProgramInfoLog(program));
    return program;
  }

  array(data, location, size, type, normalized) {
    const gl = this.gl;
    gl.bindBuffer(gl.ARRAY_BUFFER, gl.createBuffer());
    gl.bufferData(gl.ARRAY_BUFFER, data, gl.STATIC_DRAW);
    gl.enableVertexAttribArray(location);
    gl.vertexAttribPointer(location, size, type, normalized, 0, 0);
  }

  points(points, colours, count) {
    const gl = this.gl, vao = gl.createVertexArray();
    gl.bindVertexArray(vao);
    this.array(bytes(points), 0, 3, gl.SHORT, false);
    if (colours) this.array(bytes(colours), 1, 3, gl.UNSIGNED_BYTE, true);
    return { vao, count };
  }

  surface(mesh) {
    const gl = this.gl, vao = gl.createVertexArray();
    const vertices = new Int16Array(bytes(mesh.vertices).buffer);
    const faces = new Uint32Array(bytes(mesh.faces).buffer);
    gl.bindVertexArray(vao);
    this.array(vertices, 0, 3, gl.SHORT, false);
    this.array(normals(vertices, faces), 1, 3, gl.FLOAT, false);
    gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, gl.createBuffer());
    gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, faces, gl.STATIC_DRAW);
    return { vao, count: faces.length, unit: mesh.unit, colour: mesh.colour };
  }

  frustum() {
    const gl = this.gl, vao = gl.createVertexArray();
    const [x, y] = this.scene.field, z = 0.08, c = [[-x, -y], [x, -y], [x, y], [-x, y]];
    const lines = [];
    for (let i = 0; i < 4; ++i) {
      const a = c[i], b = c[(i + 1) % 4];
      lines.push(0, 0, 0, a[0] * z, a[1] * z, z, a[0] * z, a[1] * z, z, b[0] * z, b[1] * z, z);
    }
    gl.bindVertexArray(vao);
    this.array(new Float32Array(lines), 0, 3, gl.FLOAT, false);
    return { vao, count: lines.length / 3 };
  }

  gridLines() {
    const gl = this.gl, vao = gl.createVertexArray(), lines = [], r = 0.6;
    for (let i = -6; i <= 6; ++i) lines.push(i / 10, -r, 0, i / 10, r, 0, -r, i / 10, 0, r, i / 10, 0);
    gl.bindVertexArray(vao);
    this.array(new Float32Array(lines), 0, 3, gl.FLOAT, false);
    return { vao, count: lines.length / 3 };
  }

  reset() {
    Object.assign(this, { turn: this.scene.turn, tilt: this.scene.tilt, distance: this.scene.distance });
    this.target = this.scene.target.slice();
  }

  axes() {
    const [ct, st, ce, se] = [Math.cos(this.turn), Math.sin(this.turn), Math.cos(this.tilt), Math.sin(this.tilt)];
    const back = [ce * ct, ce * st, se], right = [-st, ct, 0];
    return { back, right, up: [-se * ct, -se * st, ce] };
  }

  listen() {
    const canvas = this.canvas, held = new Map();
    let gap = 0;
    canvas.addEventListener("contextmenu", (e) => e.preventDefault());
    canvas.addEventListener("pointerdown", (e) => {
      canvas.setPointerCapture(e.pointerId);
      held.set(e.pointerId, [e.clientX, e.clientY]);
    });
    for (const end of ["pointerup", "pointercancel"])
      canvas.addEventListener(end, (e) => { held.delete(e.pointerId); gap = 0; });
    canvas.addEventListener("pointermove", (e) => {
      if (!held.has(e.pointerId)) return;
      const [x, y] = held.get(e.pointerId), dx = e.clientX - x, dy = e.clientY - y;
      held.set(e.pointerId, [e.clientX, e.clientY]);
      if (held.size === 2) {
        const [a, b] = [...held.values()], now = Math.hypot(a[0] - b[0], a[1] - b[1]);
        if (gap > 0) this.distance *= gap / now;
        gap = now;
      } else if (e.shiftKey || e.buttons === 2) {
        const { right, up } = this.axes(), scale = this.distance / canvas.clientHeight;
        for (let i = 0; i < 3; ++i) this.target[i] += scale * (dy * up[i] - dx * right[i]);
      } else {
        this.turn -= dx * 0.008;
        this.tilt = Math.min(1.5, Math.max(-0.4, this.tilt + dy * 0.008));
      }
      this.draw();
    });
    canvas.addEventListener("wheel", (e) => {
      e.preventDefault();
      this.distance = Math.min(6, Math.max(0.15, this.distance * Math.exp(e.deltaY * 0.001)));
      this.draw();
    }, { passive: false });
    canvas.addEventListener("dblclick", () => { this.reset(); this.draw(); });
  }

  show(frame) {
    this.frame = frame;
    this.draw();
  }

  draw() {
    const gl = this.gl, canvas = this.canvas, scene = this.scene;
    const ratio = window.devicePixelRatio || 1;
    canvas.width = Math.round(canvas.clientWidth * ratio);
    canvas.height = Math.round(canvas.clientHeight * ratio);
    gl.viewport(0, 0, canvas.width, canvas.height);
    gl.clearColor(0.063, 0.075, 0.082, 1);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    if (!this.frame || canvas.width === 0) return;
    gl.enable(gl.DEPTH_TEST);
    gl.useProgram(this.program);
    const { back, right, up } = this.axes(), fovy = 0.75;
    const eye = this.target.map((t, i) => t + this.distance * back[i]);
    const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
    const look = new Float32Array([
      right[0], up[0], back[0], 0, right[1], up[1], back[1], 0, right[2], up[2], back[2], 0,
      -dot(right, eye), -dot(up, eye), -dot(back, eye), 1]);
    const clip = product(perspective(fovy, canvas.width / canvas.height, 0.02, 20), look);
    gl.uniformMatrix4fv(this.uniform("clip"), false, clip);
    gl.uniform3fv(this.uniform("eye"), eye);
    const still = new Float32Array([1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1]);
    const point = (metres) => metres * canvas.height / (2 * Math.tan(fovy / 2));

    const set = (place, unit, tint, shaded, size) => {
      gl.uniformMatrix4fv(this.uniform("place"), false, place);
      gl.uniform1f(this.uniform("unit"), unit);
      gl.uniform3fv(this.uniform("tint"), tint);
      gl.uniform1f(this.uniform("shaded"), shaded);
      gl.uniform1f(this.uniform("size"), size);
    };
    gl.vertexAttrib3f(1, 1, 1, 1);
    if (scene.in_world) {
      set(still, 1, [0.16, 0.18, 0.2], 0, 1);
      gl.bindVertexArray(this.grid.vao);
      gl.drawArrays(gl.LINES, 0, this.grid.count);
    }
    if ($("show-points").checked && this.frame.cloud !== null) {
      const cloud = this.clouds[this.frame.cloud];
      set(still, scene.cloud_unit, [1, 1, 1], 0, point(1.4 * cloud.spacing));
      gl.bindVertexArray(cloud.vao);
      gl.drawArrays(gl.POINTS, 0, cloud.around);
      if ($("show-objects").checked) {
        gl.uniform1f(this.uniform("size"), point(0.7 * cloud.spacing));
        gl.drawArrays(gl.POINTS, cloud.around, cloud.count - cloud.around);
      }
    }
    if ($("show-meshes").checked)
      for (const [index, place, certified] of this.frame.shown) {
        const mesh = this.meshes[index];
        const verdict = certified ? [0.25, 0.78, 0.45] : [0.95, 0.56, 0.2];
        set(place, mesh.unit, $("by-verdict").checked ? verdict : mesh.colour, 1, 1);
        gl.bindVertexArray(mesh.vao);
        gl.drawElements(gl.TRIANGLES, mesh.count, gl.UNSIGNED_INT, 0);
      }
    if ($("show-truth").checked)
      for (const [index, place] of this.frame.truth) {
        set(place, scene.truth_unit, [1, 1, 1], 0, point(0.0025));
        gl.bindVertexArray(this.truths[index].vao);
        gl.drawArrays(gl.POINTS, 0, this.truths[index].count);
      }
    if (this.frame.camera) {
      set(this.frame.camera, 1, [0.55, 0.75, 1], 0, 1);
      gl.bindVertexArray(this.lines.vao);
      gl.drawArrays(gl.LINES, 0, this.lines.count);
    }
  }
}

(function start() {
  let view = null, timer = null;
  $("show-truth").parentElement.hidden = SCENE.truths.length === 0;
  try {
    view = new View($("scene"), SCENE);
  } catch (error) {
    $("hint").textContent = "No 3D view: " + error.message;
  }
  const timelines = [...document.querySelectorAll("svg:has(.now)")].map((svg) => {
    const [low, high, left, right] = ["low", "high", "left", "right"].map((k) => +svg.dataset[k]);
    return { svg, line: svg.querySelector(".now"), low, high, left, right };
  });
  const show = (place) => {
    const frame = FRAMES[place];
    $("frame").value = place;
    $("count").textContent = "frame " + frame.index;
    if (frame.image) $("image").src = "data:image/jpeg;base64," + frame.image;
    else $("image").removeAttribute("src");
    for (const { line, low, high, left, right } of timelines) {
      const x = left + (right - left) * (frame.index - low) / (high - low);
      line.setAttribute("x1", x);
      line.setAttribute("x2", x);
    }
    if (view) view.show(frame);
  };
  $("frame").addEventListener("input", () => show(+$("frame").value));
  $("play").addEventListener("click", () => {
    if (timer) { clearInterval(timer); timer = null; } else
      timer = setInterval(() => show((+$("frame").value + 1) % FRAMES.length), 250);
    $("play").textContent = timer ? "Pause" : "Play";
  });
  for (const { svg, low, high, left, right } of timelines)
    svg.addEventListener("click", (e) => {
      const box = svg.getBoundingClientRect();
      const x = (e.clientX - box.left) * svg.viewBox.baseVal.width / box.width;
      const index = low + (high - low) * (x - left) / (right - left);
      const away = FRAMES.map((frame) => Math.abs(frame.index - index));
      show(away.indexOf(Math.min(...away)));
    });
  for (const figure of document.querySelectorAll("figure"))
    figure.querySelectorAll(".legend span").forEach((name, i) => {
      const series = figure.querySelectorAll(".series")[i];
      const pick = (on) => () => {
        figure.classList.toggle("picked", on);
        series.classList.toggle("pick", on);
      };
      name.addEventListener("mouseenter", pick(true));
      name.addEventListener("mouseleave", pick(false));
    });
  for (const id of ["show-meshes", "show-points", "show-objects", "show-truth", "by-verdict"])
    $(id).addEventListener("change", () => view && view.draw());
  show(0);
})();
