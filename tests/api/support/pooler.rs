//! A proxy before a database that does with the startup options of a client what poolers do. It pools nothing: for that,
//! `make test-pooler` runs the suite behind PgBouncer.

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio_postgres::config::{Config, Host};

const SSL_REQUEST: [u8; 4] = 80_877_103_u32.to_be_bytes();

/// What becomes of the startup parameter `options`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartupOptions {
    /// The client is refused: PgBouncer, unless it is set up otherwise.
    Refused,
    /// They are left out: PgBouncer with `ignore_startup_parameters = options`.
    Ignored,
    /// The search path is kept, the rest is left out: PgBouncer of 1.20 and later with `track_extra_parameters =
    /// search_path` too, which works with PostgreSQL 18 and later.
    SearchPathKept,
}

/// Starts a proxy before the database of a URL, and returns the URL of the database through it.
pub async fn before(url: &str, options: StartupOptions) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let port = listener.local_addr().expect("the listener is bound").port();
    let upstream: Config = url.parse().expect("the URL is valid");
    let login = upstream.get_user().expect("the URL has a user").to_owned();
    let password =
        String::from_utf8_lossy(upstream.get_password().unwrap_or_default()).into_owned();
    let name = upstream.get_dbname().expect("the URL has a database").to_owned();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let upstream = upstream.clone();
            tokio::spawn(async move { forward(client, &upstream, options).await });
        }
    });
    format!("postgres://{login}:{password}@127.0.0.1:{port}/{name}")
}

async fn forward(
    mut client: TcpStream,
    upstream: &Config,
    options: StartupOptions,
) -> std::io::Result<()> {
    let first = loop {
        let length = client.read_u32().await?;
        let mut message = vec![0; usize::try_from(length).unwrap_or(0).saturating_sub(4)];
        client.read_exact(&mut message).await?;
        if message != SSL_REQUEST {
            break message;
        }
        client.write_all(b"N").await?;
    };
    let Some(first) = pooled(&first, options) else {
        let fields = b"SFATAL\0C08P01\0Munsupported startup parameter: options\0\0";
        let length = u32::try_from(fields.len() + 4).unwrap_or(0).to_be_bytes();
        return client.write_all(&[b"E", &length[..], &fields[..]].concat()).await;
    };
    let port = upstream.get_ports().first().copied().unwrap_or(5432);
    match &upstream.get_hosts()[0] {
        Host::Tcp(host) => {
            let mut server = TcpStream::connect((host.as_str(), port)).await?;
            server.write_all(&first).await?;
            copy_bidirectional(&mut client, &mut server).await?;
        }
        Host::Unix(folder) => {
            let mut server = UnixStream::connect(folder.join(format!(".s.PGSQL.{port}"))).await?;
            server.write_all(&first).await?;
            copy_bidirectional(&mut client, &mut server).await?;
        }
    }
    Ok(())
}

/// Returns the first message for the server, or none if its client is refused.
fn pooled(message: &[u8], options: StartupOptions) -> Option<Vec<u8>> {
    // A version of four bytes, then names and values, each of which ends with a zero, and a last zero.
    let (version, parameters) = message.split_at(4);
    let parameters = String::from_utf8_lossy(parameters).into_owned();
    let texts: Vec<&str> = parameters.trim_end_matches('\0').split('\0').collect();
    let mut kept = version.to_vec();
    let mut keep = |name: &str, value: &str| {
        kept.extend_from_slice(format!("{name}\0{value}\0").as_bytes());
    };
    for pair in texts.chunks(2) {
        let (name, value) = (pair[0], pair.get(1).copied().unwrap_or_default());
        match options {
            _ if name != "options" => keep(name, value),
            StartupOptions::Refused => return None,
            StartupOptions::Ignored => {}
            StartupOptions::SearchPathKept => {
                let path = value.split_whitespace().find(|word| word.starts_with("search_path="));
                if let Some(path) = path {
                    keep(name, &format!("-c {path}"));
                }
            }
        }
    }
    kept.push(0);
    let length = u32::try_from(kept.len() + 4).unwrap_or(0).to_be_bytes();
    Some([&length[..], &kept].concat())
}
