//! A Redis client of a hundred lines: one call at a time, for setting the stage and looking behind it.

use std::{io, pin::Pin, time::Duration};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};

const DEADLINE: Duration = Duration::from_secs(5);

/// A reply (RESP2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    Nil,
    Text(String),
    Error(String),
    Int(i64),
    Array(Vec<Reply>),
}

impl Reply {
    /// The text of a simple or bulk string, or of a number.
    pub fn text(&self) -> Option<String> {
        match self {
            Self::Text(text) => Some(text.clone()),
            Self::Int(n) => Some(n.to_string()),
            _ => None,
        }
    }

    /// The elements of an array; empty for anything else.
    pub fn list(&self) -> &[Self] {
        match self {
            Self::Array(items) => items,
            _ => &[],
        }
    }
}

/// One connection.
pub struct Connection {
    stream: BufReader<TcpStream>,
}

impl Connection {
    pub async fn open(port: u16) -> io::Result<Self> {
        let stream =
            tokio::time::timeout(DEADLINE, TcpStream::connect(("127.0.0.1", port))).await??;
        Ok(Self {
            stream: BufReader::new(stream),
        })
    }

    /// Sends a command, reads its reply. An error reply is an `Err`.
    pub async fn call(&mut self, parts: &[&str]) -> io::Result<Reply> {
        let mut request = format!("*{}\r\n", parts.len()).into_bytes();
        for part in parts {
            request.extend_from_slice(format!("${}\r\n{part}\r\n", part.len()).as_bytes());
        }
        let exchange = async {
            self.stream.get_mut().write_all(&request).await?;
            read(&mut self.stream).await
        };
        match tokio::time::timeout(DEADLINE, exchange).await?? {
            Reply::Error(error) => Err(io::Error::other(error)),
            reply => Ok(reply),
        }
    }
}

fn read<'a>(
    stream: &'a mut BufReader<TcpStream>,
) -> Pin<Box<dyn Future<Output = io::Result<Reply>> + Send + 'a>> {
    Box::pin(async move {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let line = line.trim_end();
        let (sort, rest) = line.split_at_checked(1).ok_or(io::ErrorKind::InvalidData)?;
        let number = || rest.parse::<i64>().map_err(io::Error::other);
        Ok(match sort {
            "+" => Reply::Text(rest.to_owned()),
            "-" => Reply::Error(rest.to_owned()),
            ":" => Reply::Int(number()?),
            "$" => match usize::try_from(number()?) {
                Err(_) => Reply::Nil,
                Ok(length) => {
                    let mut bytes = vec![0; length + 2];
                    stream.read_exact(&mut bytes).await?;
                    bytes.truncate(length);
                    Reply::Text(String::from_utf8_lossy(&bytes).into_owned())
                }
            },
            "*" => match usize::try_from(number()?) {
                Err(_) => Reply::Nil,
                Ok(length) => {
                    let mut items = Vec::new();
                    for _ in 0..length {
                        items.push(read(stream).await?);
                    }
                    Reply::Array(items)
                }
            },
            _ => return Err(io::ErrorKind::InvalidData.into()),
        })
    })
}
