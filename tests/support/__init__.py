"""What several tests need: projects, pictures, servers, an exported model, a browser."""
