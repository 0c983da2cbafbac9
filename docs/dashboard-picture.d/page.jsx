// Draws window.picture, a dashboard and what Prometheus answered to it, with Grafana's own components.
import '@fontsource/inter/400.css';
import '@fontsource/inter/500.css';
import { createRoot } from 'react-dom/client';
import { FieldType, ThemeContext, cacheFieldDisplayNames, createTheme, dateTime, fieldMatchers, EventBusSrv, getDisplayProcessor,
  getFieldDisplayValues, toDataFrame } from '@grafana/data';
import { BigValue, GlobalStyles, PanelChrome, PanelContextProvider, Table, TimeSeries } from '@grafana/ui';

window.__grafana_public_path__ = '/public/';
const { dashboard, answers, from, to, step } = window.picture;
const theme = createTheme({ colors: { mode: 'dark' } });
const timeRange = { from: dateTime(from), to: dateTime(to), raw: { from: dateTime(from), to: dateTime(to) } };
const timeZone = 'utc';
const MARGIN = 12, GAP = 8, ROW = 30;

// What Grafana takes where a dashboard says nothing.
const DEFAULTS = {
  timeseries: { drawStyle: 'line', lineInterpolation: 'linear', lineWidth: 1, fillOpacity: 0, gradientMode: 'none', pointSize: 5,
    showPoints: 'auto', spanNulls: false, insertNulls: false, stacking: { mode: 'none', group: 'A' }, scaleDistribution: { type: 'linear' },
    axisPlacement: 'auto', axisLabel: '', axisColorMode: 'text', axisBorderShow: false, axisCenteredZero: false, barAlignment: 0,
    thresholdsStyle: { mode: 'off' }, hideFrom: { legend: false, tooltip: false, viz: false } },
  table: { align: 'auto', cellOptions: { type: 'auto' }, inspect: false },
  stat: {},
};

const seconds = (time) => time * 1000;
// Prometheus' "NaN" is Grafana's null.
const number = (text) => (text === 'NaN' ? null : Number(text.replace('Inf', 'Infinity')));

// An answer as the data source makes frames of it.
function frames({ legend, table, result }) {
  if (table) {
    if (!result.length) return [];
    const labels = [...new Set(result.flatMap((one) => Object.keys(one.metric)))].sort();
    return [{ fields: [
      { name: 'Time', type: FieldType.time, config: {}, values: result.map((one) => seconds(one.value[0])) },
      ...labels.map((name) => ({ name, type: FieldType.string, config: {}, values: result.map((one) => one.metric[name] ?? '') })),
      { name: 'Value', type: FieldType.number, config: {}, values: result.map((one) => number(one.value[1])) },
    ] }];
  }
  return result.map(({ metric, values }) => {
    const at = new Map(values.map(([time, value]) => [seconds(time), number(value)]));
    const times = Array.from({ length: (to - from) / step + 1 }, (_, i) => from + i * step);
    const name = legend.replace(/\{\{\s*(\w+)\s*\}\}/g, (_, label) => metric[label] ?? '');
    return { fields: [
      { name: 'Time', type: FieldType.time, config: { interval: step }, values: times },
      { name: 'Value', type: FieldType.number, config: { displayNameFromDS: name }, labels: metric,
        values: times.map((time) => at.get(time) ?? null) },
    ] };
  });
}

function transform(series, { id, options }) {
  if (id !== 'organize') throw new Error(`transformation ${id}`);
  const place = (field) => options.indexByName?.[field.name] ?? Infinity;
  return series.map((frame) => ({ ...frame, fields: frame.fields
    .filter((field) => !options.excludeByName?.[field.name])
    .sort((a, b) => place(a) - place(b) || 0)
    .map((field) => ({ ...field, config: { ...field.config, displayName: options.renameByName?.[field.name] } })) }));
}

// The panel's field options and overrides, put on its fields.
function data(panel) {
  const { defaults, overrides } = panel.fieldConfig;
  const steps = (defaults.thresholds?.steps ?? [{ color: 'green' }, { color: 'red', value: 80 }])
    .map(({ color, value }) => ({ color, value: value ?? -Infinity }));
  const series = (panel.transformations ?? []).reduce(transform, answers[panel.id].flatMap(frames)).map(toDataFrame);
  let count = 0;
  for (const frame of series) for (const field of frame.fields) {
    field.config = { color: { mode: panel.type === 'timeseries' ? 'palette-classic' : 'thresholds' }, mappings: [],
      ...(field.type === FieldType.time ? {} : defaults), thresholds: { mode: 'absolute', steps },
      custom: structuredClone({ ...DEFAULTS[panel.type], ...defaults.custom }), ...field.config };
    for (const { matcher, properties } of overrides) if (fieldMatchers.get(matcher.id).get(matcher.options)(field, frame, series))
      for (const { id, value } of properties) {
        if (id.startsWith('custom.')) field.config.custom[id.slice(7)] = value; else field.config[id] = value;
      }
    field.state = {};
    if (field.type === FieldType.number) {
      const values = field.values.filter(Number.isFinite);
      const range = { min: field.config.min ?? Math.min(...values), max: field.config.max ?? Math.max(...values) };
      field.state = { seriesIndex: count++, range: { ...range, delta: range.max - range.min } };
    }
    field.display = getDisplayProcessor({ field, theme, timeZone });
  }
  cacheFieldDisplayNames(series);
  return series;
}

function Content({ panel, width, height }) {
  const series = data(panel), { options, fieldConfig } = panel;
  if (panel.type === 'stat') {
    const [first] = getFieldDisplayValues({ fieldConfig, reduceOptions: options.reduceOptions, replaceVariables: (text) => text, theme, timeZone,
      data: series, sparkline: options.graphMode !== 'none' });
    return <BigValue theme={theme} width={width} height={height} value={first.display} count={1} {...options}
      sparkline={first.sparkline && { ...first.sparkline, timeRange }} />;
  }
  if (!series.length) {
    const centre = { width, height, display: 'flex', alignItems: 'center', justifyContent: 'center', color: theme.colors.text.secondary };
    return <div style={{ ...centre, fontSize: theme.typography.size.lg }}>{fieldConfig.defaults.noValue ?? 'No data'}</div>;
  }
  if (panel.type === 'table') return <Table data={series[0]} width={width} height={height} cellHeight={options.cellHeight} timeRange={timeRange}
    noHeader={!options.showHeader} initialSortBy={options.sortBy} fieldConfig={fieldConfig} />;
  return <TimeSeries frames={series} structureRev={1} width={width} height={height} timeRange={timeRange} timeZone={timeZone} legend={options.legend}
    options={options} />;
}

function Panel({ panel }) {
  const { x, y, w, h } = panel.gridPos, column = (window.innerWidth - 2 * MARGIN + GAP) / 24;
  const width = w * column - GAP, height = h * (ROW + GAP) - GAP;
  return (
    <div style={{ position: 'absolute', left: MARGIN + x * column, top: MARGIN + y * (ROW + GAP), width, height }}>
      <PanelContextProvider value={{ eventsScope: `panel-${panel.id}`, eventBus: new EventBusSrv() }}>
        <PanelChrome width={width} height={height} title={panel.title} description={panel.description}>
          {(width, height) => <Content panel={panel} width={width} height={height} />}
        </PanelChrome>
      </PanelContextProvider>
    </div>
  );
}

document.body.style.background = theme.colors.background.canvas;
Promise.all(['400 12px Inter', '500 14px Inter'].map((font) => document.fonts.load(font))).then(() =>
  createRoot(document.body.appendChild(document.createElement('div'))).render(
    <ThemeContext.Provider value={theme}>
      <GlobalStyles />
      {dashboard.panels.map((panel) => <Panel key={panel.id} panel={panel} />)}
    </ThemeContext.Provider>));
