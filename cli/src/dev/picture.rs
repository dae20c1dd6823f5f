//! The live picture: who calls whom, how well, as whom, and how the controllers stand.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::time::Duration;

use ratatui::crossterm::event::{self, Event, KeyCode, KeyModifiers};
use ratatui::layout::{Constraint, Layout as Split};
use ratatui::style::{Modifier, Style};
use ratatui::text::Line as TextLine;
use ratatui::widgets::{Block, Paragraph, Row, Table};
use ratatui::{DefaultTerminal, Frame};
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::failure::{Failure, Outcome};
use crate::printer::say;

use super::app::tally::Line;
use super::demo::Workload;
use super::mesh::Mesh;
use super::process::App;

/// Between two pictures: fast enough for keys, slow enough to cost nothing.
const FRAME: Duration = Duration::from_millis(200);
/// Pictures between two looks at the controllers.
const LOOK_EVERY: u32 = 5;
/// Pictures between two lines where there is no terminal.
const LINE_EVERY: u32 = 25;

/// One arrow of the picture.
#[derive(Clone, Debug)]
struct Edge {
    from: &'static str,
    to: String,
    line: Line,
}

/// One controller's row.
#[derive(Clone, Debug)]
struct Standing {
    name: String,
    text: [String; 4],
}

/// Shows the demo until `q`, Ctrl-C or the time is up.
pub(super) async fn show(mesh: &mut Mesh, limit: Option<Duration>) -> Outcome {
    let mut visitors = Vec::new();
    for set in mesh.sets {
        visitors.push(mesh.trickle(&set.web)?);
    }
    hint(mesh);
    let mut terminal = std::io::stdout()
        .is_terminal()
        .then(Screen::open)
        .transpose()?;
    turn(
        mesh,
        &visitors,
        terminal.as_mut(),
        limit.map(|limit| Instant::now() + limit),
    )
    .await
}

/// The terminal in raw mode; given back when this is dropped, be it by a signal that ends the demo.
struct Screen(DefaultTerminal);

impl Screen {
    fn open() -> Outcome<Screen> {
        ratatui::try_init()
            .map(Screen)
            .map_err(|error| Failure::failed("open the terminal").caused_by(error))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        ratatui::restore();
    }
}

fn hint(mesh: &Mesh) {
    let sockets = mesh
        .controllers
        .sockets()
        .iter()
        .map(|socket| socket.display().to_string())
        .collect::<Vec<_>>()
        .join(",");
    say(&format!(
        "in another terminal: export MAILLE_SOCKET={sockets}"
    ));
    say("then: maille status; maille proxies; maille get all -A; maille routes -n demo");
}

async fn turn(
    mesh: &mut Mesh,
    visitors: &[App],
    mut terminal: Option<&mut Screen>,
    end: Option<Instant>,
) -> Outcome {
    let mut ticks = interval(FRAME);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut standings = Vec::new();
    for count in 0u32.. {
        ticks.tick().await;
        if end.is_some_and(|end| Instant::now() >= end) {
            break;
        }
        if count.is_multiple_of(LOOK_EVERY) {
            standings = look(mesh).await;
        }
        let edges = edges(mesh, visitors);
        match terminal.as_mut() {
            Some(Screen(terminal)) => {
                let drawn = terminal.draw(|frame| draw(frame, &edges, &standings));
                drawn.map_err(|error| Failure::failed("draw").caused_by(error))?;
                if ended_by_key()? {
                    break;
                }
            }
            None if count.is_multiple_of(LINE_EVERY) => say(&summary(&edges, &standings)),
            None => {}
        }
    }
    Ok(())
}

/// In raw mode Ctrl-C is a key like any other.
fn ended_by_key() -> Outcome<bool> {
    let failed = |error| Failure::failed("read the terminal").caused_by(error);
    while event::poll(Duration::ZERO).map_err(failed)? {
        if let Event::Key(key) = event::read().map_err(failed)? {
            let interrupt =
                key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
            if interrupt || matches!(key.code, KeyCode::Char('q') | KeyCode::Esc) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

async fn look(mesh: &Mesh) -> Vec<Standing> {
    let views = mesh.controllers.views().await;
    let names = mesh.controllers.members.iter().map(|member| member.name);
    names
        .zip(views)
        .map(|(name, view)| {
            let text = match view {
                Ok(view) => {
                    let role = if view.leader == name {
                        "leader"
                    } else {
                        "follower"
                    };
                    let index = view.state.map_or(0, |state| state.index);
                    [
                        role.to_string(),
                        format!("term {}", view.term),
                        format!("mesh index {index}"),
                        format!("{} streams", view.streams),
                    ]
                }
                Err(status) => [
                    "silent".to_string(),
                    status.message().to_string(),
                    String::new(),
                    String::new(),
                ],
            };
            Standing {
                name: name.to_string(),
                text,
            }
        })
        .collect()
}

fn edges(mesh: &Mesh, visitors: &[App]) -> Vec<Edge> {
    let fronts = mesh.sets.iter().zip(visitors);
    fronts
        .flat_map(|(set, visitors)| edges_of(mesh, &set.web, visitors))
        .collect()
}

/// Who visits a front, and what it calls.
fn edges_of(mesh: &Mesh, web: &Workload, visitors: &App) -> Vec<Edge> {
    let names = mesh
        .ground
        .layout
        .listeners(web)
        .into_iter()
        .map(|(listen, target)| (listen, target.service))
        .collect::<BTreeMap<_, _>>();
    let name = |to: &str| {
        names.get(to).map_or_else(
            || to.split('.').next().unwrap_or(to).to_string(),
            |service| service.to_string(),
        )
    };
    let visits = visitors.said().lines.into_values().map(|line| Edge {
        from: "visitors",
        to: web.name.into(),
        line,
    });
    let parts = mesh.apps.get(web.name).map(App::said).unwrap_or_default();
    let parts = parts.lines.into_iter().map(|(to, line)| Edge {
        from: web.name,
        to: name(&to),
        line,
    });
    visits.chain(parts).collect()
}

fn cells(edge: &Edge) -> [String; 7] {
    let tally = &edge.line.tally;
    let success = if tally.sent == 0 {
        "-".into()
    } else {
        format!("{:.2} %", 100.0 * tally.ok as f64 / tally.sent as f64)
    };
    let millis = |micros: u64| format!("{:.1} ms", micros as f64 / 1000.0);
    let servers = tally.servers.iter().map(|(name, count)| {
        format!(
            "{name} {:.0} %",
            100.0 * *count as f64 / tally.ok.max(1) as f64
        )
    });
    let seen = tally
        .identities
        .keys()
        .map(|identity| identity.rsplit("/ns/").next().unwrap_or(identity))
        .collect::<Vec<_>>()
        .join(", ");
    [
        format!("{} → {}", edge.from, edge.to),
        format!("{}/s", edge.line.recent.count),
        success,
        millis(edge.line.recent.p50),
        millis(edge.line.recent.p99),
        servers.collect::<Vec<_>>().join(", "),
        seen,
    ]
}

fn draw(frame: &mut Frame<'_>, edges: &[Edge], standings: &[Standing]) {
    let heading = Style::new().add_modifier(Modifier::BOLD);
    let areas = Split::vertical([
        Constraint::Length(edges.len() as u16 + 3),
        Constraint::Length(standings.len() as u16 + 2),
        Constraint::Min(1),
    ])
    .split(frame.area());
    let widths = [18, 8, 10, 10, 10, 26, 30].map(Constraint::Length);
    let header = Row::new([
        "who calls whom",
        "rate",
        "success",
        "p50",
        "p99",
        "answered by",
        "seen as",
    ])
    .style(heading);
    let calls = Table::new(edges.iter().map(|edge| Row::new(cells(edge))), widths).header(header);
    frame.render_widget(
        calls.block(Block::bordered().title(" Maille: calls, as the applications count them ")),
        areas[0],
    );
    let rows = standings.iter().map(|standing| {
        let style = if standing.text[0] == "leader" {
            heading
        } else {
            Style::new()
        };
        Row::new(
            std::iter::once(&standing.name)
                .chain(&standing.text)
                .cloned(),
        )
        .style(style)
    });
    let controllers = Table::new(rows, [6, 10, 12, 20, 12].map(Constraint::Length));
    frame.render_widget(
        controllers.block(Block::bordered().title(" controllers ")),
        areas[1],
    );
    frame.render_widget(
        Paragraph::new(TextLine::from(
            "q or Ctrl-C ends the demo and removes everything it made",
        )),
        areas[2],
    );
}

/// The picture in one line, where there is no terminal.
fn summary(edges: &[Edge], standings: &[Standing]) -> String {
    let calls = edges.iter().map(|edge| {
        let [who, rate, success, p50, p99, ..] = cells(edge);
        format!("{who}: {rate}, {success}, p50 {p50}, p99 {p99}")
    });
    let leader = standings
        .iter()
        .find(|standing| standing.text[0] == "leader")
        .map_or("no leader".to_string(), |leader| {
            format!("{} leads", leader.name)
        });
    let index = standings
        .iter()
        .find(|standing| standing.text[0] == "leader")
        .map(|leader| leader.text[2].clone())
        .unwrap_or_default();
    calls.chain([leader, index]).collect::<Vec<_>>().join(" | ")
}
