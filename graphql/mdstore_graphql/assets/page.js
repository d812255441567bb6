// Puts GraphiQL on the page; everything it needs was loaded before from this server.
"use strict";

const DEFAULT_QUERY = `# What is in the store, and where its newest artifact came from.
# Ctrl-Space completes, Ctrl-Enter runs.
{
  runs(first: 10, orderBy: {field: CREATED_AT, direction: DESC}) {
    totalCount
    nodes { name state startedAt pipeline { name } }
  }
  artifacts(first: 1, orderBy: {field: CREATED_AT, direction: DESC}) {
    nodes {
      name type uri
      producer { name run { name } }
      lineage(direction: UPSTREAM) {
        truncated
        runs { name }
        nodes { __typename name type }
      }
    }
  }
}
`;

const fetcher = GraphiQL.createFetcher({ url: window.location.pathname });
ReactDOM.createRoot(document.getElementById("graphiql")).render(
  React.createElement(GraphiQL, { fetcher, defaultQuery: DEFAULT_QUERY, defaultEditorToolsVisibility: true }),
);
