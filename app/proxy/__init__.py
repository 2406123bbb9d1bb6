"""The path of an action: admitted, sent, completed, released. Each step's module names the promise it keeps."""
